"""The jobs and the substations as the event log describes them, built event by event. Pure.

Events of different writers may arrive in any order and more than once: the result is the same.
A writer's clock may be wrong: a time later than now counts as now.
The memory is bounded: the jobs that ended first are forgotten first; of those whose request may be
repeated, all but the decision is kept for as long as the log has it. A job that has not ended is
never forgotten. If there are too many of them, the oldest are packed, without their decisions:
their number is limited by the queues.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any, Final, NamedTuple

from msgspec import Struct

from api.forecast import Forecaster
from api.idempotency import is_keyed
from api.jobs.job import Assignment, Job, booked_in, request_of
from api.jobs.packed import matches, number_of, pack, unpack
from api.jobs.retired import Retired
from api.jobs.rows import START, JobQuery, Rows
from api.jobs.sessions import Sessions
from api.jobs.stats import Stats
from api.jobs.waiting import WaitingOrder, rank_of, turn_from
from api.last_heard import LastHeard
from api.readiness import Readiness, readiness
from api.substations import Need, Substations, need_of
from grid.events import ASSIGNED, BOOKED, CHARGING, ENDED, QUEUED, STATES, SUBSTATIONS, Event, State
from grid.kinds import Snapshot

MAX_SUBSTATIONS: Final = 10_000
MAX_UNPACKED_BYTES: Final = 64 * 1024 * 1024  # of the latest decisions, which are kept unpacked
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024  # of older ones, which wait to be packed
MAX_ROWS: Final = 250  # jobs that are looked at in one go: some milliseconds, also if packed
FORECAST_SECONDS: Final = 0.5  # for which one forecast serves
SLACK, FEW = 1.25, 1_000  # how much longer than needed the order may be before it is rebuilt


class Applied(Struct, frozen=True, gc=False):
    """An event that was applied to its job, as of ``at``, and what was known of the job before.

    Args:
        kind: The state that it entered; None if it was told of its start.
        at: When it happened, in Unix seconds: no later than it was read.
        before: The job's state; None if the job was not known.
        had_request: Whether its request was known.
        duplicates: How many further completions it is for its job: one or none.
    """

    event: Event
    kind: State | None
    at: float
    job: Job
    before: State | None
    had_request: bool
    duplicates: int


class Page(NamedTuple):
    """Some jobs of a query, and the number behind which to continue; None if none is left."""

    jobs: list[Job]
    last: int | None


class Projection:
    """The jobs by id, in the order in which the log first named them.

    At most ``max_jobs`` are kept in full, and none that ended more than ``max_age`` seconds ago.
    The log has at most ``max_bytes``. ``charge_speed`` is how many seconds of charging pass in one;
    None where sessions do not take as long as their energy takes.
    """

    def __init__(
        self,
        max_jobs: int,
        max_age: float = inf,
        max_bytes: float = inf,
        charge_speed: float | None = None,
    ) -> None:
        self._charge_speed = charge_speed
        self._max_jobs = max_jobs
        self._max_age = max_age
        self._jobs: OrderedDict[str, Job] = OrderedDict()  # a dict is slow to return its oldest
        self._ended: OrderedDict[str, Job] = OrderedDict()  # in the order in which they ended
        self._packed: dict[str, bytes] = {}  # those that have not ended, beyond ``max_jobs``
        # those with a large decision that is not packed, each with the bytes counted for it
        self._large: OrderedDict[str, tuple[Job, int]] = OrderedDict()
        self._large_bytes = 0  # the sum of these
        self._retired = Retired(max_bytes, max_age)
        self._named = 0
        self._rows = Rows()  # of the jobs in their order; some are gone
        self._order: WaitingOrder | None = None  # made once somebody asks for a place
        self.stats = Stats()
        self.sessions = Sessions()
        self._forecasters: dict[Need, Forecaster] = {}
        self._forecast_at = -inf
        self.by_status: Counter[State] = Counter()
        self.substations = Substations()

    def apply(self, event: Event, now: float = inf) -> Applied | None:
        """Apply one event that is read ``now``, in Unix seconds; None if it is none of a job."""
        at, kind = min(event.at, now), STATES.get(event.kind)
        if kind is None:
            if event.kind == BOOKED:
                return self._book(event, at, now)
            self._apply_snapshot(event, at, now)
            return None
        job, is_known = self._jobs.get(event.job), True
        if job is None:
            job, is_known = self._add(event.job, at)
        before, had_request = job.status if is_known else None, job.queued is not None
        completions = job.duplicates
        if event is not job.queued:  # else it is this service's own, which is read back
            self._change(job, kind, event, now if now < inf else at)
        return Applied(event, kind, at, job, before, had_request, job.duplicates - completions)

    def _change(self, job: Job, kind: State, event: Event, now: float) -> None:
        """Apply an event to its job, and count what it changes."""
        status, queued, charging, ended = job.status, job.queued, job.charging, job.ended
        begins_at = job.may_begin_at if kind is QUEUED else None
        job.apply(kind, event)
        if job.status is not status:
            self._count(job, status)
        if job.queued is not queued and job.number <= self._rows.described:
            self._rows.describe(job)
        if self._order is not None:
            _place_in_order(self._order, job, status, queued, self._charge_speed)
        if kind is CHARGING or status is CHARGING:
            self.sessions.apply(event, job)
        if kind is not ASSIGNED:
            self.stats.apply(kind, (queued, begins_at, charging, ended), job, now)
        elif job.assigned is not None:
            self._count_large(job, job.assigned)

    def _book(self, event: Event, at: float, now: float) -> Applied | None:
        """Apply what a job was told of its start; None if it is malformed."""
        if (booked := booked_in(event)) is None:
            return None
        job, is_known = self._jobs.get(event.job), True
        if job is None:
            job, is_known = self._add(event.job, at)
        before = job.queued, job.may_begin_at, job.charging, job.ended
        job.book(booked)
        self.stats.apply(None, before, job, now if now < inf else at)
        status = job.status if is_known else None
        return Applied(event, None, at, job, status, job.queued is not None, 0)

    def _apply_snapshot(self, event: Event, at: float, now: float) -> None:
        """Apply a snapshot, unless it is older than the last one.

        That one is of the future if the clock was set back since: then any other is newer.
        """
        if event.kind != SUBSTATIONS or not _is_valid(event):
            return
        if self.substations.at <= at or self.substations.at > now:
            self.substations, self._forecast_at = Substations(event, at), -inf

    def _count_large(self, job: Job, assigned: Assignment) -> None:
        """Count the bytes of a job's decision, instead of those of an earlier one."""
        self._forget_large(job)
        if assigned.is_large:
            size = len(assigned.record)
            self._large[job.id] = job, size
            self._large_bytes += size
            for each in self._beyond(MAX_UNPACKED_BYTES + MAX_WAITING_BYTES):
                assert each.assigned is not None, "it has a large decision"  # noqa: S101
                each.assigned = each.assigned.packed()

    def pop_large(self) -> list[Job]:
        """Remove and return the jobs whose decisions are to be packed, the oldest first."""
        return list(self._beyond(MAX_UNPACKED_BYTES))

    def _forget_large(self, job: Job) -> None:
        if (large := self._large.pop(job.id, None)) is not None:
            self._large_bytes -= large[1]  # as counted: the decision may have been replaced since

    def _beyond(self, max_bytes: int) -> Iterator[Job]:
        while self._large_bytes > max_bytes:
            _, (job, size) = self._large.popitem(last=False)
            self._large_bytes -= size
            yield job

    @property
    def in_full(self) -> int:
        """Return how many jobs are kept in full."""
        return len(self._jobs)

    def get(self, id: str) -> Job | None:
        """Return a job, or None if the log does not name it.

        A job that is not kept in full is built from what is known; changing it has no effect here.
        """
        if (job := self._jobs.get(id)) is not None:
            return job
        packed = self._packed.get(id)
        return self._retired.get(id) if packed is None else unpack(id, packed)

    def read(self, size: int) -> None:
        """Record that so many bytes of the log were read."""
        self._retired.read(size)

    def known_substations(self) -> frozenset[str]:
        """Return the ids of the substations, as far as the dispatcher has written them."""
        return self.substations.ids

    def place(self, job: Job, now: float) -> int | None:
        """Return the place of a job among those that wait at ``now`` (Unix seconds), from 1.

        None if it does not wait, or may not begin yet, or reserves a start, or if so many have not
        ended that some are packed.
        """
        place = self.place_in_turn(job, now)
        return place if self.has_turn(job) else None

    def has_turn(self, job: Job) -> bool:
        """Return whether a job that waits has a turn among the others, if their order is kept."""
        return self._order is not None and self._order.has_turn(job.id)

    def place_in_turn(self, job: Job, now: float) -> int | None:
        """Return the place of a job, or that it would have if it had a turn ``now``."""
        if job.status is not State.QUEUED or job.queued is None or self._packed:
            return None
        if self._order is None:
            self._order = WaitingOrder()
            for each in self._jobs.values():
                if each.status is State.QUEUED and each.queued is not None:
                    _add_to_order(self._order, each.id, each.queued, self._charge_speed)
        self._order.admit(now)
        return self._order.place(rank_of(job.request, job.queued.at, self._charge_speed), now)

    def forecaster(self, request: Mapping[str, Any], now: float, heard: LastHeard) -> Forecaster:
        """Return what foretells when jobs begin that may go where this one may.

        A page of a list asks for each of its jobs, so that is worked out anew only now and then.
        """
        if not self._forecast_at <= now < self._forecast_at + FORECAST_SECONDS:
            self._forecast_at = now
            self._forecasters.clear()
        need = need_of(request)
        if (known := self._forecasters.get(need)) is None:
            places = self.substations.places(need, self.sessions, heard)
            known = self._forecasters[need] = Forecaster(places, now)
        return known

    def readiness(
        self, request: Mapping[str, Any], begins_at: float, now: float, heard: LastHeard
    ) -> Readiness | None:
        """Return what a job will have at its departure that begins then; None if unknown."""
        if request.get("departure_time") is None:
            return None
        speed = self._charge_speed
        mean = None if speed is not None else self.forecaster(request, now, heard).mean_seconds
        return readiness(request, begins_at, speed, mean)

    def number_of(self, id: str) -> int:
        """Return the number of a job. Raise ``KeyError`` if the log does not name it."""
        if (number := self._number(id)) is None:
            raise KeyError(id)
        return number

    def page(self, query: JobQuery, after: int, limit: int, max_rows: int = MAX_ROWS) -> Page:
        """Return up to ``limit`` jobs, in the order of a query, behind a number, or the ``START``.

        At most ``max_rows`` are looked at, so that a caller can let others work in between: a page
        may have fewer jobs than there are, or none.
        """
        if query.is_described and not self._describe(max_rows):
            return Page([], after)
        found: list[Job] = []
        rows = self._rows.select(query, after, max_rows)
        for number, name in rows.found:
            job = self._if_wanted(name, number, query)
            if job is not None:
                found.append(job)
                if len(found) == limit:
                    return Page(found, number)
        return Page(found, rows.last)

    def _describe(self, max_rows: int) -> bool:
        """Describe up to so many of the rows that were never looked for; return if none is left."""
        for number, name in self._rows.undescribed(max_rows):
            job = self.get(name) if self._number(name) == number else None
            self._rows.describe(job or Job(name, number))
        return self._rows.are_described

    def _if_wanted(self, name: str, number: int, query: JobQuery) -> Job | None:
        job = self._jobs.get(name)
        if job is None:
            packed = self._packed.get(name)
            if packed is None or number_of(packed) != number:
                return None  # it is gone, or was named anew since
            if not matches(packed, query.statuses, query.substation):
                return None
            job = unpack(name, packed)
        elif job.number != number or not query.is_at(job):
            return None
        return job if query.fits(job) else None

    def after(
        self, id: str | None, status: State | None = None, substation: str | None = None
    ) -> Iterator[Job]:
        """Yield the jobs after the one with this id, or all, the oldest first.

        Only those in a state and at a substation, if these are given. Raise ``KeyError`` if the log
        does not name that job.
        """
        query = JobQuery(None if status is None else frozenset({status}), substation)
        page = Page([], START if id is None else self.number_of(id))
        while page.last is not None:
            page = self.page(query, page.last, MAX_ROWS)
            yield from page.jobs

    def _number(self, id: str) -> int | None:
        if (job := self._jobs.get(id)) is not None:
            return job.number
        packed = self._packed.get(id)
        return None if packed is None else number_of(packed)

    def _add(self, id: str, now: float) -> tuple[Job, bool]:
        """Add a job, which is kept in full from now on; return it, and whether it was known."""
        self._make_room(now)
        is_known = True
        if (packed := self._packed.pop(id, None)) is not None:
            job = unpack(id, packed)
        else:
            self._named += 1
            retired = self._retired.pop(id, self._named)
            is_known, job = retired is not None, retired or Job(id, self._named)
            self._rows.append(job.number, id)
            self.by_status[job.status] += 1
            if job.status in ENDED:
                self._ended[id] = job
        self._jobs[id] = job
        return job, is_known

    def _make_room(self, now: float) -> None:
        """Make room for one more job, and drop what is older than the log."""
        if len(self._jobs) >= self._max_jobs:
            self._reduce(now)
        while self._ended and next(iter(self._ended.values())).last_at < now - self._max_age:
            self._drop(next(iter(self._ended.values())), now)
        if len(self._rows) > SLACK * (len(self._jobs) + len(self._packed)) + FEW:
            self._rows = self._rows.only(lambda number, name: self._number(name) == number)

    def _count(self, job: Job, before: State) -> None:
        self.by_status[before] -= 1
        self.by_status[job.status] += 1
        if job.status not in ENDED:
            self._ended.pop(job.id, None)
        elif before not in ENDED:
            self._ended[job.id] = job

    def _reduce(self, now: float) -> None:
        """Keep one job less in full: drop the first that ended, else pack the oldest."""
        first = next(iter((self._ended or self._jobs).values()))
        if first.status in ENDED or not _was_accepted(first):
            self._drop(first, now)
        else:
            self._packed[first.id] = pack(first)
            del self._jobs[first.id]
            self._forget_large(first)

    def _drop(self, job: Job, now: float) -> None:
        self._ended.pop(job.id, None)
        del self._jobs[job.id]
        self._forget_large(job)
        self.by_status[job.status] -= 1
        self.sessions.forget(job.id)
        if is_keyed(job.id):
            self._retired.put(job, now)


def _place_in_order(
    order: WaitingOrder, job: Job, status: State, queued: Event | None, speed: float | None
) -> None:
    """Keep the order of the jobs that wait, after an event; before it, these were known."""
    waited = queued if status is State.QUEUED else None
    waits = job.queued if job.status is State.QUEUED else None
    if waited is not waits:
        if waited is not None:
            order.remove(rank_of(request_of(waited), waited.at, speed), job.id)
        if waits is not None:
            _add_to_order(order, job.id, waits, speed)


def _add_to_order(order: WaitingOrder, job: str, queued: Event, speed: float | None) -> None:
    request = request_of(queued)
    rank, begin = rank_of(request, queued.at, speed), turn_from(request)
    if begin == -inf:
        order.add(rank)
    else:
        order.add_later(job, rank, begin)


def _was_accepted(job: Job) -> bool:
    """Return whether others than substations wrote of a job: one could make up any number."""
    return any((job.queued, job.replayed, job.booked, job.assigned))


def _is_valid(event: Event) -> bool:
    """Return whether a snapshot names substations, and not too many."""
    rows = Snapshot(event.detail).rows
    return rows is not None and len(rows) <= MAX_SUBSTATIONS
