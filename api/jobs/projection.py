"""The jobs and the substations as the event log describes them, built event by event. Pure.

Events of different writers may arrive in any order and more than once: the result is the same.
A writer's clock may be wrong: a time later than now counts as now.
The memory is bounded: the jobs that ended first are forgotten first; of those whose request may be
repeated, all but the decision is kept for as long as the log has it. A job that has not ended is
never forgotten. If there are too many of them, the oldest are packed, without their decisions:
their number is limited by the queues.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator
from math import inf
from typing import Final

from api.idempotency import is_keyed
from api.jobs.job import Assignment, Job
from api.jobs.packed import matches, number_of, pack, unpack
from api.jobs.retired import Retired
from grid.events import ENDED, SUBSTATIONS, Event, State
from grid.kinds import Snapshot

_APPLIED: Final = frozenset(State)
MAX_SUBSTATIONS: Final = 10_000
MAX_UNPACKED_BYTES: Final = 64 * 1024 * 1024  # of the latest decisions, which are kept unpacked
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024  # of older ones, which wait to be packed
SLACK, FEW = 1.25, 1_000  # how much longer than needed the order may be before it is rebuilt


class Projection:
    """The jobs by id, in the order in which the log first named them.

    At most ``max_jobs`` are kept in full, and none that ended more than ``max_age`` seconds ago.
    The log has at most ``max_bytes``.
    """

    def __init__(self, max_jobs: int, max_age: float = inf, max_bytes: float = inf) -> None:
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
        self._numbers = array("Q")  # of the jobs in their order, and their ids; some are gone
        self._ids: list[str] = []
        self.by_status: Counter[State] = Counter()
        self.substations: Event | None = None
        self._known: frozenset[str] = frozenset()
        self._snapshot_at = -inf

    def apply(self, event: Event, now: float = inf) -> Job | None:
        """Apply one event that is read ``now``, in Unix seconds; return the job it changed."""
        at = min(event.at, now)
        if event.kind == SUBSTATIONS:
            if at >= self._snapshot_at and (names := _substations(event)) is not None:
                self.substations, self._snapshot_at, self._known = event, at, names
            return None
        if event.kind not in _APPLIED:
            return None
        job = self._jobs.get(event.job) or self._add(event.job, at)
        before = job.status
        job.apply(State(event.kind), event)
        self._count(job, before)
        if event.kind == State.ASSIGNED and job.assigned is not None:
            self._count_large(job, job.assigned)
        return job

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
        # the counted size: the decision may have been replaced since
        _, size = self._large.pop(job.id, (job, 0))
        self._large_bytes -= size

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
        return self._known

    def after(
        self, id: str | None, status: State | None = None, substation: str | None = None
    ) -> Iterator[Job]:
        """Yield the jobs after the one with this id, or all, the oldest first.

        Only those in a state and at a substation, if these are given. Raise ``KeyError`` if the log
        does not name that job.
        """
        start = 0
        if id is not None:
            if (number := self._number(id)) is None:
                raise KeyError(id)
            start = bisect_right(self._numbers, number)
        for index in range(start, len(self._ids)):
            name = self._ids[index]
            if self._number(name) != self._numbers[index]:
                continue
            if (job := self._jobs.get(name)) is not None:
                if status in (None, job.status) and substation in (None, job.substation):
                    yield job
            elif matches(packed := self._packed[name], status, substation):
                yield unpack(name, packed)

    def _number(self, id: str) -> int | None:
        if (job := self._jobs.get(id)) is not None:
            return job.number
        packed = self._packed.get(id)
        return None if packed is None else number_of(packed)

    def _add(self, id: str, now: float) -> Job:
        """Add a job, which is kept in full from now on, and return it."""
        self._make_room(now)
        packed = self._packed.pop(id, None)
        job = self._new(id) if packed is None else unpack(id, packed)
        self._jobs[id] = job
        return job

    def _new(self, id: str) -> Job:
        self._named += 1
        job = self._retired.pop(id, self._named) or Job(id, self._named)
        self._numbers.append(job.number)
        self._ids.append(id)
        self.by_status[job.status] += 1
        if job.status in ENDED:
            self._ended[id] = job
        return job

    def _make_room(self, now: float) -> None:
        """Make room for one more job, and drop what is older than the log."""
        if len(self._jobs) >= self._max_jobs:
            self._reduce(now)
        while self._ended and next(iter(self._ended.values())).last_at < now - self._max_age:
            self._drop(next(iter(self._ended.values())), now)
        if len(self._ids) > SLACK * (len(self._jobs) + len(self._packed)) + FEW:
            known = [
                (number, name)
                for number, name in zip(self._numbers, self._ids, strict=True)
                if self._number(name) == number
            ]
            self._numbers = array("Q", (number for number, _ in known))
            self._ids = [name for _, name in known]

    def _count(self, job: Job, before: State) -> None:
        if job.status is before:
            return
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
        if is_keyed(job.id):
            self._retired.put(job, now)


def _was_accepted(job: Job) -> bool:
    """Return whether others than substations wrote of a job: one could make up any number."""
    return job.queued is not None or job.replayed is not None or job.decided


def _substations(event: Event) -> frozenset[str] | None:
    """Return the substations of a snapshot; None if it is invalid, or lists too many."""
    rows = Snapshot(event.detail).rows
    if rows is None or len(rows) > MAX_SUBSTATIONS:
        return None
    return frozenset(each["substation"] for each in rows)
