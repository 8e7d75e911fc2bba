"""What the event log says of every job, and of the substations: built event by event. Pure.

Events of different writers arrive in any order, and any of them twice: what comes out is the same.
The memory is bounded: beyond ``most`` jobs, those that ended first are forgotten first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from grid.events import ENDED, SUBSTATIONS, Event, State

_ON_ITS_WAY: Final = (State.CHARGING, State.ASSIGNED, State.QUEUED)


@dataclass(slots=True)
class Job:
    """One job as far as the log tells. ``times`` has each state's time in Unix seconds."""

    id: str
    number: int
    status: State = State.QUEUED
    substation: str | None = None
    attempt: int = 0
    times: dict[State, float] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    decision: Mapping[str, Any] | None = None
    reason: str | None = None
    completions: set[tuple[str, float]] = field(default_factory=set)

    @property
    def duplicates(self) -> int:
        """How often it was completed beyond the first time."""
        return max(0, len(self.completions) - 1)


class Projection:
    """The jobs by id, in the order in which the log first named them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: dict[str, Job] = {}
        self._order: list[Job] = []
        self._ended: deque[Job] = deque()
        self._named = 0
        self.by_status: Counter[State] = Counter()
        self.substations: Event | None = None

    def apply(self, event: Event) -> Job | None:
        """Take in one event; gives the job it changed."""
        if event.kind == SUBSTATIONS:
            if self.substations is None or event.at >= self.substations.at:
                self.substations = event
            return None
        if event.kind not in _APPLY:
            return None
        job = self._jobs.get(event.job) or self._new(event.job)
        before = job.status
        _APPLY[State(event.kind)](job, event)
        job.status = _status(job)
        self._count(job, before)
        return job

    def get(self, id: str) -> Job | None:
        """Give a job, or None where the log does not name it."""
        return self._jobs.get(id)

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

    def _new(self, id: str) -> Job:
        self._named += 1
        job = self._jobs[id] = Job(id, self._named)
        self._order.append(job)
        self.by_status[job.status] += 1
        if len(self._jobs) > self._most:
            self._drop_one()
        if len(self._order) > 2 * self._most:
            self._order = list(self._jobs.values())
        return job

    def _count(self, job: Job, before: State) -> None:
        if job.status is before:
            return
        self.by_status[before] -= 1
        self.by_status[job.status] += 1
        if job.status in ENDED and before not in ENDED:
            self._ended.append(job)

    def _drop_one(self) -> None:
        job = self._ended.popleft() if self._ended else next(iter(self._jobs.values()))
        del self._jobs[job.id]
        self.by_status[job.status] -= 1


def _status(job: Job) -> State:
    ends = [state for state in ENDED if state in job.times]
    if ends:
        return min(ends, key=lambda state: job.times[state])
    return next((state for state in _ON_ITS_WAY if state in job.times), State.QUEUED)


def _queued(job: Job, event: Event) -> None:
    job.times[State.QUEUED] = event.at
    job.request = event.detail


def _assigned(job: Job, event: Event) -> None:
    if event.at < job.times.get(State.ASSIGNED, 0):
        return
    if job.substation not in (None, event.substation):
        job.times.pop(State.CHARGING, None)  # it did not stay where it was
    job.times[State.ASSIGNED] = event.at
    job.substation = event.substation
    job.decision = event.detail
    job.attempt = max(job.attempt, event.attempt)
    if isinstance(asked := event.detail.get("requested_at"), int | float):
        job.times.setdefault(State.QUEUED, asked)


def _charging(job: Job, event: Event) -> None:
    job.times[State.CHARGING] = max(event.at, job.times.get(State.CHARGING, 0))
    job.substation = event.substation
    job.attempt = max(job.attempt, event.attempt)


def _completed(job: Job, event: Event) -> None:
    job.completions.add((event.substation, event.at))
    if event.at <= job.times.get(State.COMPLETED, event.at):
        job.times[State.COMPLETED] = event.at
        job.substation = event.substation


def _ended(job: Job, event: Event) -> None:
    job.times.setdefault(State(event.kind), event.at)
    job.reason = event.reason or job.reason


_APPLY: Final = {
    State.QUEUED: _queued,
    State.ASSIGNED: _assigned,
    State.CHARGING: _charging,
    State.COMPLETED: _completed,
    State.CANCELLED: _ended,
    State.EXPIRED: _ended,
    State.PARKED: _ended,
}
