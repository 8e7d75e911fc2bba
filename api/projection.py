"""What the event log says of every job, and of the substations: built event by event. Pure.

Events of different writers arrive in any order, and any of them twice: what comes out is the same.
A writer's clock may be wrong: what it dates later than now counts as of now.
The memory is bounded: what ended longest ago is forgotten first, and decisions are kept packed. Of
those whose request may come again, the rest is kept for as long as the log has it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator
from math import inf
from typing import Final

from api.idempotency import is_keyed
from api.job import Job
from api.retired import Retired
from grid.events import ENDED, SUBSTATIONS, Event, State
from grid.messages import valid_substation_id

_TAKEN: Final = frozenset(State)
MAX_SUBSTATIONS: Final = 10_000
SLACK, FEW = 1.25, 1_000  # how much longer than needed the order may be, before it is made anew


class Projection:
    """The jobs by id, in the order in which the log first named them.

    At most ``most`` jobs are kept, and none that ended more than ``oldest`` seconds ago. The log
    has at most ``most_bytes``.
    """

    def __init__(self, most: int, oldest: float = inf, most_bytes: float = inf) -> None:
        self._most = most
        self._oldest = oldest
        self._jobs: OrderedDict[str, Job] = OrderedDict()  # a dict is slow to give its oldest
        self._order: list[Job] = []
        self._ended: OrderedDict[str, Job] = OrderedDict()  # the first that ended first
        self._retired = Retired(most_bytes, oldest)
        self._named = 0
        self.by_status: Counter[State] = Counter()
        self.substations: Event | None = None
        self._told_at = -inf

    def apply(self, event: Event, now: float = inf) -> Job | None:
        """Take in one event that is read ``now``, in Unix seconds; gives the job it changed."""
        at = min(event.at, now)
        if event.kind == SUBSTATIONS:
            if at >= self._told_at and _names_substations(event):
                self.substations, self._told_at = event, at
            return None
        if event.kind not in _TAKEN:
            return None
        job = self._jobs.get(event.job) or self._new(event.job, at)
        before = job.status
        job.take(State(event.kind), event)
        self._count(job, before)
        return job

    def get(self, id: str) -> Job | None:
        """Give a job, or None where the log does not name it."""
        return self._jobs.get(id) or self._retired.get(id)

    def read(self, size: int) -> None:
        """Note that so many bytes of the log were read."""
        self._retired.read(size)

    def known_substations(self) -> frozenset[str]:
        """Give the ids of the substations there are, as far as the dispatcher has told."""
        told = self.substations.detail.get("substations", []) if self.substations else []
        return frozenset(each["substation"] for each in told)

    def after(self, id: str | None) -> Iterator[Job]:
        """Give the jobs that came after one, or all, the oldest first.

        Raises ``KeyError`` where the log does not name that one.
        """
        start = 0
        if id is not None:
            start = bisect_right(self._order, self._jobs[id].number, key=lambda each: each.number)
        for index in range(start, len(self._order)):
            job = self._order[index]
            if self._jobs.get(job.id) is job:
                yield job

    def _new(self, id: str, now: float) -> Job:
        self._make_room(now)
        self._named += 1
        job = self._retired.take(id, self._named) or Job(id, self._named)
        self._jobs[job.id] = job
        self._order.append(job)
        self.by_status[job.status] += 1
        if job.status in ENDED:
            self._ended[job.id] = job
        return job

    def _make_room(self, now: float) -> None:
        """Have room for one more, and nothing that is older than the log."""
        if len(self._jobs) >= self._most:
            self._drop_one(now)
        while self._ended and next(iter(self._ended.values())).last_at < now - self._oldest:
            self._drop_one(now)
        if len(self._order) > SLACK * len(self._jobs) + FEW:
            self._order = list(self._jobs.values())

    def _count(self, job: Job, before: State) -> None:
        if job.status is before:
            return
        self.by_status[before] -= 1
        self.by_status[job.status] += 1
        if job.status not in ENDED:
            self._ended.pop(job.id, None)
        elif before not in ENDED:
            self._ended[job.id] = job

    def _drop_one(self, now: float) -> None:
        first = self._ended or self._jobs
        job = next(iter(first.values()))
        self._ended.pop(job.id, None)
        del self._jobs[job.id]
        self.by_status[job.status] -= 1
        if is_keyed(job.id):
            self._retired.put(job, now)


def _names_substations(event: Event) -> bool:
    """Return whether an event is a snapshot of substations, and of no more than there can be."""
    rows = event.detail.get("substations")
    return (
        isinstance(rows, list)
        and len(rows) <= MAX_SUBSTATIONS
        and all(
            isinstance(each, dict) and valid_substation_id(each.get("substation")) for each in rows
        )
    )
