"""The event log as the api reads and writes it; it fills the projection."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple

from api.errors import NotCaughtUp, UnknownJob
from api.jobs.feed import Feed
from api.jobs.free_connectors import FreeConnectors
from api.jobs.job import Assignment, Job
from api.jobs.projection import Projection
from api.metrics import Metrics
from api.substations import need_of
from grid import event_log, provenance
from grid.errors import STILL_READING, MalformedMessage
from grid.event_log import EventWriter, Mark
from grid.events import CHARGING, ENDED, SUBSTATIONS, Event
from grid.isolation import Isolation
from grid.threads import in_thread
from grid.trace import Exemplar

log = logging.getLogger(__name__)

RETRY_INTERVAL: Final = 5.0  # after RabbitMQ has refused an event for some time
PACK_INTERVAL: Final = 1.0
OWN_EVENTS: Final = 5_000  # that are remembered until they are read back, a second at full rate
FREEZE_EVERY: Final = 1_000  # messages read before the mark
SOON: Final = 1.0  # seconds
MAX_EXEMPLARS: Final = 10_000  # jobs that have not begun, and whose traces are recorded
MAX_UNWRITTEN: Final = 10_000  # of more events, those that RabbitMQ refuses are given up


class _Waiter(NamedTuple):
    """What somebody waits for, and the future that ends the wait."""

    holds: Callable[[Job], bool]
    over: asyncio.Future[None]

    def end(self) -> None:
        """End the wait, unless it has ended."""
        if not self.over.done():
            self.over.set_result(None)


class EventLog:
    """A reader and writer of the event log, which also wakes requests that wait for a decision.

    A mark of its own shows when it has read all that was written before its start.

    ``clock`` returns Unix seconds.
    """

    def __init__(
        self,
        projection: Projection,
        writer: EventWriter,
        metrics: Metrics,
        clock: Callable[[], float],
        isolation: Isolation,
        *,
        feed: Feed,
    ) -> None:
        self._past_at = 0.0  # the time of the last event that was read before the mark
        self._isolation = isolation
        self._feed = feed
        self._projection = projection
        self._writer = writer
        self._clock = clock
        self._metrics = metrics
        self._mark = Mark(writer, clock)
        # set once all that was written before this start was read
        self.caught_up: Final = self._mark.passed
        self._waiting: dict[str, list[_Waiter]] = {}
        self._free = FreeConnectors()
        self._exemplars: dict[str, Exemplar] = {}  # of jobs accepted here, the oldest first
        self._is_ending = False
        self._unwritten = 0
        self._past = 0  # messages that were read before the mark
        self._heard_at: float | None = None  # when the dispatcher wrote the last of them

    def check_caught_up(self) -> None:
        """Raise ``NotCaughtUp`` while what was written before this start is still being read."""
        if not self.caught_up.is_set():
            raise NotCaughtUp(self.progress())

    def progress(self) -> str:
        """Return how far what was written before this start has been read, in words."""
        if not self._past:
            return STILL_READING
        last = datetime.fromtimestamp(self._past_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"{STILL_READING} ({self._past:,} messages so far, the last one of {last})"

    @property
    def full(self) -> bool:
        """Return whether so many events wait to be written that another one may be given up."""
        return self._unwritten >= MAX_UNWRITTEN

    def read(self, body: bytes, writer: str) -> None:
        """Apply the events of one message of the stream, as far as its writer may write them."""
        try:
            found = self._writer.pop_written(body, writer) or event_log.read(body, writer)
        except MalformedMessage as error:
            log.warning("a message of the event log is skipped: %s", error)
            return
        self._projection.read(len(body))
        from_dispatcher = writer == provenance.DISPATCHER
        if self.caught_up.is_set():
            self._feed.hear(from_dispatcher=from_dispatcher)
        else:
            self._keep_from_collector()
            if from_dispatcher and found:
                self._heard_at = found[-1].at
        now = self._clock()
        for event in found:
            # one bad event must not end every api: the log is read again at each start
            try:
                self._apply(event, now)
            except Exception as error:  # noqa: BLE001
                self._isolation.record_failure("an event of the log", error)
        if found and not self.caught_up.is_set():
            self._past_at = found[-1].at

    def _keep_from_collector(self) -> None:
        """Keep the garbage collector from what was read before the mark.

        All of it is kept, and to walk through it repeatedly takes a sixth of the time to read it.
        """
        self._past += 1
        if self._past % FREEZE_EVERY == 0:
            # What is frozen is never collected, so garbage is collected first. Only what came since
            # the last freeze is walked through, each object once. Freezing all at the end would let
            # the collector walk through it until then, or need it switched off, and a long pause at
            # the end.
            gc.collect()
            gc.freeze()

    def record(self, event: Event, exemplar: Exemplar | None = None) -> Job | None:
        """Apply and write one of the api's own events, without waiting to read it back.

        Other readers get it once it is written, which is retried while there is no stream. With an
        ``exemplar``, the start of the job's session is observed with it.
        """
        if exemplar is not None:
            if len(self._exemplars) >= MAX_EXEMPLARS:  # no more of those: they may never begin
                del self._exemplars[next(iter(self._exemplars))]
            self._exemplars[event.job] = exemplar
        self._write(event)
        applied = self._projection.apply(event, self._clock())
        if applied is None:
            return None
        self._feed.apply_own(applied)
        return applied.job

    def job(self, id: str) -> Job | None:
        """Return a job, or None if the log does not name it so far."""
        return self._projection.get(id)

    def existing(self, id: str) -> Job:
        """Return a job. Raise ``UnknownJob``, or ``NotCaughtUp`` while it may still be read."""
        if (job := self._projection.get(id)) is None:
            self.check_caught_up()
            raise UnknownJob(f"there is no job {id} in the event log")
        return job

    async def mark(self) -> None:
        """Write the mark, repeatedly, until it was read back."""
        await self._mark.write()
        self._feed.begin(self._heard_at)
        self._metrics.caught_up.set(1)
        log.info(
            "the event log was read to its end: %d jobs", sum(self._projection.by_status.values())
        )

    async def pack(self) -> None:
        """Pack large decisions, off the loop's thread, until the task is cancelled."""
        while True:
            await asyncio.sleep(PACK_INTERVAL)
            jobs = self._projection.pop_large()
            known = [(job, job.assigned) for job in jobs if job.assigned is not None]
            if not known:
                continue
            packing = partial(_packed, [assigned for _, assigned in known])
            try:
                packed = await in_thread(packing, "packing of decisions")
            except RuntimeError:  # no more threads can be started
                packed = packing()
            for (job, before), after in zip(known, packed, strict=True):
                if job.assigned is before:
                    job.assigned = after

    async def decided(self, job: Job, seconds: float) -> Job:
        """Wait until a job is sent to a substation, or promised a start, or has ended.

        At most so many seconds: not at all if it may begin only after them, and reserves no start.
        Return the job as it is then: it may have been packed in the meantime.
        """
        is_later = job.may_begin_at > self._clock() + seconds
        if is_later and job.request.get("reserve") is not True:
            return job
        return await self.until(job, _decided, seconds)

    async def until(self, job: Job, holds: Callable[[Job], bool], seconds: float) -> Job:
        """Wait until ``holds`` returns true for a job; at most so many seconds.

        Return the job as it is then: it may have been packed in the meantime.
        """
        if holds(job) or self._is_ending:
            return job
        waiter = _Waiter(holds, asyncio.get_running_loop().create_future())
        waiters = self._waiting.setdefault(job.id, [])
        waiters.append(waiter)
        try:
            await asyncio.wait({waiter.over}, timeout=seconds)
        finally:
            waiters.remove(waiter)
            if not waiters:
                self._waiting.pop(job.id, None)
        return self._projection.get(job.id) or job

    def end_waits(self) -> None:
        """End all waits for jobs, also those that would begin: the service stops."""
        self._is_ending = True
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.end()

    def _write(self, event: Event) -> None:
        self._unwritten += 1
        self._writer.insist(
            event,
            RETRY_INTERVAL,
            self._on_written,
            wanted=lambda: self._unwritten <= MAX_UNWRITTEN,
        )

    def _on_written(self, written: bool) -> None:  # noqa: FBT001
        self._unwritten -= 1
        if not written:
            self._metrics.events_lost.inc()

    def _apply(self, event: Event, now: float) -> None:
        applied = self._projection.apply(event, now)
        if applied is None:
            self._mark.see(event)
        if not self.caught_up.is_set():
            return
        if applied is None:
            self._feed.on_other(event)
            if event.kind == SUBSTATIONS:
                snapshot = self._projection.substations
                self._free.see(snapshot.rows(self._feed.last_heard), snapshot.at)
            return
        self._feed.apply(applied)
        job = applied.job
        if applied.duplicates:
            self._metrics.duplicates.inc(applied.duplicates)
        if applied.kind is CHARGING and (since := job.waits_since) is not None:
            self._observe_beginning(job, since, event.at)
        for waiter in self._waiting.get(job.id, ()):
            if waiter.holds(job):
                waiter.end()

    def _observe_beginning(self, job: Job, since: float, at: float) -> None:
        """Record how long a job waited for its session, in all and with a free connector."""
        waited = max(0, at - since)
        exemplar = self._exemplars.pop(job.id, None)
        self._metrics.charging_seconds.observe(waited, exemplar)
        if waited > SOON:  # else nobody needs to know what it may use: to parse that takes time
            free_since = self._free.since(need_of(job.request).allowed)
            waited = max(0, at - max(since, free_since))
        self._metrics.begin_seconds.observe(waited, exemplar)


def _packed(assigned: Sequence[Assignment]) -> list[Assignment]:
    return [each.packed() for each in assigned]


def _decided(job: Job) -> bool:
    """Return whether the decision on a job is known, or its start, or that it has ended."""
    return job.decided or job.promise is not None or job.status in ENDED
