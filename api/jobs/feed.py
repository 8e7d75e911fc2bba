"""The changes of the jobs and the substations as they happen, for many readers at once.

What changed is collected and encoded for all readers together a few times a second: one more
reader costs a copy of bytes, not another encoding. A reader that does not keep up is ended: it
comes back and continues from the offset it has seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from api import alerts, answers
from api.alerts import Alert, Facts, Source
from api.errors import TooManyStreams
from api.firing import Observed
from api.jobs.figures import Figures
from api.jobs.job import Booked, Job
from api.jobs.projection import Applied, Projection
from api.jobs.rows import START, JobQuery, vehicle_of
from api.jobs.search import find
from api.last_heard import DispatcherWatch, LastHeard
from grid import wire
from grid.events import QUEUED, Event, State, is_time

log = logging.getLogger(__name__)

FLUSH_INTERVAL: Final = 0.1
SECOND: Final = 1.0
KEEPALIVE_INTERVAL: Final = 10.0
MAX_BUFFERED: Final = 2 * 1024 * 1024  # bytes that wait for one reader
MAX_RECENT: Final = 20_000  # changes that a reader can go back
MAX_SHOWN: Final = 200  # jobs in a snapshot
MAX_READERS: Final = 200


class Change(NamedTuple):
    """An event of a job, and the job's state after it."""

    event: Event
    job: Job
    status: State
    vehicle: str | None
    substation: str | None
    booked: Booked | None  # what it was told of its start


class Selection(NamedTuple):
    """Which changes a reader wants; empty fields match all."""

    job: str | None = None
    vehicle: str | None = None
    substation: str | None = None
    states: frozenset[State] | None = None

    @property
    def is_all(self) -> bool:
        """Return whether it matches everything."""
        return self == Selection()

    def query(self) -> JobQuery:
        """Return the query of the jobs whose changes it selects, but for the job's id."""
        return JobQuery(self.states, self.substation, self.vehicle, newest_first=True)

    def matches(self, change: Change) -> bool:
        """Return whether a reader wants a change."""
        return (
            self.job in (None, change.job.id)
            and (self.states is None or change.status in self.states)
            and self.vehicle in (None, change.vehicle)
            and self.substation in (None, change.substation)
        )


class Reader:
    """One reader: what waits for it. ``chunks`` ends once it was ended."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.is_ended = False
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._has_begun = False
        self._wake = asyncio.Event()

    def begin(self, chunk: bytes) -> None:
        """Add what comes before all that was put: however long it is, it does not end the reader.

        Nothing is yielded before.
        """
        self._has_begun = True
        if chunk:
            self._chunks.appendleft(chunk)
        if self._chunks:
            self._wake.set()

    def put(self, chunk: bytes) -> None:
        """Add bytes to what waits; end the reader if that is too much."""
        if self.is_ended:
            return
        self._size += len(chunk)
        if self._size > MAX_BUFFERED:
            log.info("a client of GET /events is disconnected: it reads too slowly")
            self.end()
            return
        self._chunks.append(chunk)
        if self._has_begun:
            self._wake.set()

    def end(self) -> None:
        """End the reader: it gets nothing more."""
        self._chunks.clear()
        self.is_ended = True
        self._wake.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what waits, and a comment now and then while nothing does."""
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE_INTERVAL):
                    await self._wake.wait()
            except TimeoutError:
                yield KEEPALIVE_COMMENT
                continue
            if self.is_ended:
                return
            chunk = b"".join(self._chunks)
            self._chunks.clear()
            self._size = 0
            self._wake.clear()
            yield chunk


class Feed:
    """The one writer of all readers.

    ``projection`` holds the jobs. ``clock`` returns Unix seconds, ``now`` those of a steady clock;
    ``offset`` returns the event log's next offset to be read, ``prometheus`` what Prometheus says.
    """

    def __init__(
        self,
        projection: Projection,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
        offset: Callable[[], int],
        prometheus: Callable[[], Observed] = Observed,
    ) -> None:
        self._projection = projection
        self._clock = clock
        self._now = now
        self._offset = offset
        self._prometheus = prometheus
        self._figures = Figures()
        # the jobs that changed, each with the offset of the event log's next message then
        self._recent: deque[tuple[int, Job]] = deque()
        # of those, the ones that this api has accepted, and not read in the log yet
        self._unread: set[str] = set()
        self._at = 0  # the offset, as of the message that is read
        self._forgotten = 0  # the offset up to which changes were forgotten, or never seen
        self._pending: list[Change] = []
        self._readers: set[Reader] = set()
        self._is_followed = asyncio.Event()
        self._dispatcher = DispatcherWatch(now())
        # what readers have: the snapshot, and whether it was old
        self._written = projection.substations, False
        self._since: dict[str, float] = {}  # of the alerts, as of the last second
        self._last: dict[str, float] = {}  # when the api found an alert last, by the steady clock
        self._blocked = ""  # why RabbitMQ blocks publishers, as of the last status

    # --- what the event log says

    def begin(self, heard_at: float | None) -> None:
        """Begin with the jobs as they are: all that was written before was read.

        ``heard_at`` is when the dispatcher wrote the last of it, in Unix seconds; None if it did
        not.
        """
        if heard_at is not None:
            now, at, known = self._now(), self._clock(), self._projection.substations
            self._dispatcher.begin(
                now - max(0.0, at - heard_at), now - max(0.0, at - known.at), has_left=known.is_last
            )
        self._forgotten = self._at = self._offset()
        self._figures.begin(self._projection.after(None, State.QUEUED), self._clock())

    @property
    def last_heard(self) -> LastHeard:
        """Return when the dispatcher was heard last."""
        return self._dispatcher.last_heard(self._now())

    def on_link(self, *, is_up: bool) -> None:
        """Record whether the links to RabbitMQ are up: what was written meanwhile comes soon."""
        self._dispatcher.on_link(self._now(), is_up=is_up)

    def hear(self, *, from_dispatcher: bool) -> None:
        """Record that a message of the event log is read, before its events are applied."""
        self._at = self._offset()
        if from_dispatcher:
            self._dispatcher.hear(self._now())

    def apply_own(self, applied: Applied) -> None:
        """Add a change that this api has made, before it is read in the log.

        Readers of another api may have read on, and resume here: they do not know of it.
        """
        self._unread.add(applied.job.id)
        self.apply(applied)

    def apply(self, applied: Applied) -> None:
        """Add a change of a job."""
        job = applied.job
        self._remember(job)
        if applied.had_request and applied.kind is QUEUED and job.status is applied.before:
            self._unread.discard(job.id)
            return  # an event of this api, which is read back
        self._figures.apply(applied)
        if self._readers:
            self._pending.append(_change(applied.event, job))

    def _remember(self, job: Job) -> None:
        # without the event: to keep 20,000 of them costs as much time as to read them
        self._recent.append((self._at, job))
        if len(self._recent) > MAX_RECENT:
            offset, forgotten = self._recent.popleft()
            self._forgotten = offset + 1  # others of the same offset may be left
            self._unread.discard(forgotten.id)

    def on_other(self, event: Event) -> None:
        """Record an event that is none of a job: a snapshot, unless it came too late."""
        known = self._projection.substations
        if known.event is event:
            self._dispatcher.see_snapshot(self._now(), has_left=known.is_last)

    # --- readers

    async def open(self, selection: Selection, seen: int | None, problems: Iterable[str]) -> Reader:
        """Return a new reader, which has what changed since the offset ``seen``, if possible.

        Else it has a snapshot. Raise ``TooManyStreams`` if there are as many readers as there may
        be.
        """
        self.flush()  # which forgets the readers that were ended
        if len(self._readers) >= MAX_READERS:
            raise TooManyStreams(f"{MAX_READERS} clients follow GET /events, the most there may be")
        reader = Reader(selection)
        missed = self._missed(selection, seen)
        self._readers.add(reader)  # what changes from here on comes after its first chunk
        self._is_followed.set()
        try:
            if missed is None:
                at = self._at
                snapshot = await self._snapshot(selection, list(problems))
                missed = self._event("snapshot", snapshot, at)
        except BaseException:
            self.close(reader)
            raise
        reader.begin(missed)
        return reader

    def _missed(self, selection: Selection, seen: int | None) -> bytes | None:
        """Return what changed since an offset; None if that is not known, or too much to send."""
        if seen is None or not self._forgotten <= seen <= self._at:
            return None
        unread = self._unread
        jobs = {job.id: job for offset, job in self._recent if offset >= seen or job.id in unread}
        changes = [_last_change(each) for each in jobs.values()]
        chunk = self._changes([each for each in changes if selection.matches(each)])
        if len(chunk) > MAX_BUFFERED:
            return None
        return chunk + self._substations() if selection.is_all else chunk

    async def followed(self) -> None:
        """Wait until there is a reader."""
        await self._is_followed.wait()

    @property
    def readers(self) -> int:
        """Return how many readers there are."""
        return len(self._readers)

    def close(self, reader: Reader) -> None:
        """Forget a reader."""
        self._readers.discard(reader)

    def end(self) -> None:
        """End all readers: the service stops."""
        for each in self._readers:
            each.end()

    async def run(
        self,
        problems: Callable[[], list[str]],
        blocked: Callable[[], str],
        probe: Callable[[], None],
    ) -> None:
        """Write to all readers until the task is cancelled.

        Args:
            problems: returns what keeps the api from being ready.
            blocked: returns why RabbitMQ blocks publishers; empty if it does not.
            probe: publishes something: RabbitMQ tells only those that publish why it blocks them.
        """
        due, was_silent = self._now(), False
        while True:
            await asyncio.sleep(FLUSH_INTERVAL)
            self.flush()
            found = problems()
            self.on_link(is_up=not alerts.is_cut_off(found))
            is_silent = self.last_heard.is_silent
            if self._now() >= due:
                due = max(due + SECOND, self._now())
                self.end_second(found, blocked())
                if is_silent:
                    probe()
            elif is_silent != was_silent:
                self.tell_status(found, blocked())
            was_silent = is_silent

    def end_second(self, problems: list[str], blocked: str) -> None:
        """End a second of the figures, and tell the readers how all is."""
        self._blocked = blocked
        at, now = self._clock(), self._now()
        facts = self._facts(problems, at)
        found = alerts.alerts(facts)
        # what is old is no figure of now
        self._figures.end_second(at, () if alerts.is_silent(facts) else facts.rows or ())
        self._since = {each.name: self._since.get(each.name, at) for each in found}
        self._last |= {each.name: now for each in found if each.source is Source.API}
        if readers := self._readers_of_all:
            _put(readers, self._event("status", self._status(facts, found, at)))

    def tell_status(self, problems: list[str], blocked: str) -> None:
        """Tell the readers how all is."""
        self._blocked = blocked
        if readers := self._readers_of_all:
            _put(readers, self._event("status", self._status_now(problems)))

    def flush(self) -> None:
        pending, self._pending = self._pending, []
        if pending:
            self._put_changes(self._readers, pending)
        self._readers = {each for each in self._readers if not each.is_ended}
        if not self._readers:
            self._is_followed.clear()
        known = self._projection.substations, self.last_heard.is_silent
        if known != self._written:
            self._written = known
            if readers := self._readers_of_all:
                _put(readers, self._substations())

    @property
    def _readers_of_all(self) -> list[Reader]:
        """Return those who follow everything."""
        return [each for each in self._readers if each.selection.is_all]

    def _put_changes(self, readers: Iterable[Reader], changes: list[Change]) -> None:
        for_all: bytes | None = None
        for reader in readers:
            if reader.selection.is_all:
                for_all = for_all or self._changes(changes)
                reader.put(for_all)
            elif wanted := [each for each in changes if reader.selection.matches(each)]:
                reader.put(self._changes(wanted))

    # --- what they get

    def _event(self, name: str, data: object, at: int | None = None) -> bytes:
        offset = self._at if at is None else at
        return format_sse_event(event=name, data_str=wire.encode(data).decode(), id=str(offset))

    def _changes(self, changes: list[Change]) -> bytes:
        return self._event("jobs", [_shown(each) for each in changes]) if changes else b""

    def _substations(self) -> bytes:
        return self._event("substations", self._substation_list())

    def _substation_list(self) -> dict[str, Any]:
        known, now = self._projection.substations, self._clock()
        if known.age(now) is None:
            return {"as_of": None, "substations": []}
        rows = [each.model_dump(mode="json") for each in known.rows(self.last_heard)]
        return {"as_of": answers.moment(known.at), "substations": rows}

    async def _snapshot(self, selection: Selection, problems: list[str]) -> dict[str, Any]:
        known, now, heard = self._projection, self._clock(), self.last_heard
        jobs = [
            answers.listed(each, answers.wait_of(each, known, now, heard))
            for each in await self._jobs(selection)
        ]
        if not selection.is_all:
            return {"jobs": jobs}
        return {
            "jobs": jobs,
            **self._substation_list(),
            "status": self._status_now(problems),
            "history": self._history(),
        }

    async def _jobs(self, selection: Selection) -> list[Job]:
        """Return the jobs that match, the newest first, as many as are shown."""
        query = selection.query()
        if selection.job is not None:
            job = self._projection.get(selection.job)
            return [job] if job is not None and query.is_at(job) and query.fits(job) else []
        return await find(self._projection, query, START, MAX_SHOWN)

    def _history(self) -> dict[str, Any]:
        samples = list(self._figures.history)
        names = {name for each in samples for name in each.names}
        loads: dict[str, list[float | None]] = {name: [None] * len(samples) for name in names}
        for number, sample in enumerate(samples):
            for name, load in zip(sample.names, sample.loads, strict=True):
                loads[name][number] = load
        columns = ("at", "accepted", "assigned", "completed", "waiting", "spread", "p50", "p95")
        return {
            **{key: [getattr(each, key) for each in samples] for key in columns},
            "loads": loads,
        }

    def _rows(self) -> list[dict[str, Any]] | None:
        known, now = self._projection.substations, self._clock()
        if known.age(now) is None:
            return None
        rows = known.rows(self.last_heard)
        return [{"substation": each.id, **vars(each)} for each in rows]

    def oldest_wait(self, at: float) -> float:
        """Return for how many seconds the job that waits longest has waited; 0 if none waits."""
        oldest_at = self._figures.oldest_at
        return 0.0 if oldest_at is None else max(0.0, at - oldest_at)

    def _facts(self, problems: list[str], at: float) -> Facts:
        figures, heard = self._figures, self.last_heard
        return Facts(
            problems=problems,
            blocked=self._blocked,
            silent=heard.seconds,
            has_left=heard.has_left,
            snapshot_age=heard.snapshot_seconds,
            is_excused=self._dispatcher.is_excused(self._now()),
            rows=self._rows(),
            waiting=figures.waiting,
            oldest=self.oldest_wait(at),
            parked=self._projection.by_status[State.PARKED],
            prometheus=self._prometheus(),
            recent=self._unsettled(),
        )

    def _unsettled(self) -> list[str]:
        """Return the names of the api's alerts that Prometheus may not know to be over."""
        settled = self._now() - alerts.SETTLING
        return [name for name, last in self._last.items() if last >= settled]

    def _status_now(self, problems: list[str]) -> dict[str, Any]:
        at = self._clock()
        facts = self._facts(problems, at)
        return self._status(facts, alerts.alerts(facts), at)

    def _status(self, facts: Facts, found: Sequence[Alert], at: float) -> dict[str, Any]:
        figures, counts = self._figures, self._projection.by_status
        last = self._figures.history[-1] if self._figures.history else None
        return {
            "at": at,
            "dispatcher": {
                "silent_seconds": round(facts.silent, 1),
                "is_silent": alerts.is_silent(facts),
            },
            "accepts": not facts.problems and not facts.blocked,
            "counts": {state.value: counts[state] for state in State},
            "rates": figures.rates(),
            "second": last
            and {
                "accepted": last.accepted,
                "assigned": last.assigned,
                "completed": last.completed,
                "spread": last.spread,
                "p50": last.p50,
                "p95": last.p95,
            },
            "waiting": figures.waiting,
            "oldest_at": figures.oldest_at,
            "last_minute": figures.last_minute(),
            "energy_today_kwh": self._projection.stats.energy(at),
            "alerts": [
                {**each._asdict(), "since": each.since or self._since.get(each.name, at)}
                for each in found
            ],
        }


def _put(readers: Iterable[Reader], chunk: bytes) -> None:
    for reader in readers:
        reader.put(chunk)


def _last_change(job: Job) -> Change:
    """Return the change that led to a job's state."""
    at = job.times.get(job.status, job.asked_at or 0.0)
    event = Event(job.status, at, job.id, job.substation or "", job.attempt, job.reason or "")
    return _change(event, job)


def _change(event: Event, job: Job) -> Change:
    """Return a change; a request is parsed each time, so its vehicle is taken once.

    The substation is the job's, as in a list: an end that the dispatcher wrote names none, and an
    event that comes late another one.
    """
    vehicle = vehicle_of(job.request)
    return Change(event, job, job.status, vehicle, job.substation, job.booked)


def _shown(change: Change) -> dict[str, Any]:
    event, earliest = change.event, change.job.earliest_start
    return {
        "id": change.job.id,
        "status": change.status,
        "event": event.kind,
        "at": answers.moment(event.at),
        "substation": change.substation or None,
        "attempt": event.attempt or change.job.attempt,
        "vehicle_id": change.vehicle,
        "reason": event.reason or None,
        "reservation": answers.reservation(change.booked),
        "earliest_start": answers.moment(earliest) if is_time(earliest) else None,
    }
