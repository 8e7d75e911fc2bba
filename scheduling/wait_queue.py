"""The jobs that wait for a substation with capacity, in the order of their turn. Pure.

The most urgent come first (``priority``), among these who must begin soonest to be done by the
departure (the least laxity: departure − now − time to charge, and now is the same for all), then
who came first.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Generic, NamedTuple, Protocol, TypeVar

from grid.messages import ChargeRequest

Rank = tuple[float, float, float, str]


class Requirements(NamedTuple):
    """What a job needs of a substation, and when its turn is.

    Args:
        rank: Its place among those that wait: the lowest is next.
        allowed: The only substations that will do; empty where any will.
        power_kw: What it draws.
        departs_at: When its vehicle leaves, in Unix seconds; infinite where nobody said.
    """

    rank: Rank
    allowed: tuple[str, ...]
    power_kw: float
    departs_at: float


class Waiting(Protocol):
    """A job that waits."""

    @property
    def requirements(self) -> Requirements:
        """Return what it needs."""


W = TypeVar("W", bound=Waiting)


def requirements(request: ChargeRequest) -> Requirements:
    """Return what a request needs of a substation."""
    starts, departs = request.latest_start, request.departure_time
    latest = inf if starts is None else starts
    rank = (float(-request.priority), latest, request.requested_at, request.id)
    allowed = request.eligible_substations
    return Requirements(rank, allowed, request.power_kw, inf if departs is None else departs)


class WaitQueue(Generic[W]):
    """Jobs in the order of their rank; of equal ranks the first stays first."""

    def __init__(self) -> None:
        self._jobs: list[W] = []
        self._next_departure = inf  # or earlier: a job that was removed may have been that one

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._jobs)

    def __iter__(self) -> Iterator[W]:
        """Return the jobs, in their order."""
        return iter(self._jobs)

    def add(self, job: W) -> None:
        """Add a job, at the place of its rank."""
        self._next_departure = min(self._next_departure, job.requirements.departs_at)
        if not self._jobs or _rank(self._jobs[-1]) <= job.requirements.rank:
            self._jobs.append(job)
        else:
            insort(self._jobs, job, key=_rank)

    def remove_first(self, count: int, but: Sequence[W]) -> None:
        """Remove so many jobs from the front, but some of these, which keep their order."""
        self._jobs[:count] = but

    def pop_departed(self, now: float) -> list[W]:
        """Remove and return the jobs whose departure has come; ``now`` is in Unix seconds."""
        if now < self._next_departure:
            return []
        departed = self.pop_where(lambda job: job.requirements.departs_at <= now)
        self._next_departure = min(
            (each.requirements.departs_at for each in self._jobs), default=inf
        )
        return departed

    def pop_last(self, count: int) -> list[W]:
        """Remove and return so many of the jobs whose turn is last."""
        last = self._jobs[-count:] if count else []
        del self._jobs[len(self._jobs) - len(last) :]
        return last

    def pop_where(self, wanted: Callable[[W], bool]) -> list[W]:
        """Remove and return all jobs that are wanted."""
        found: list[W] = []
        others: list[W] = []
        for each in self._jobs:
            (found if wanted(each) else others).append(each)
        if found:
            self._jobs = others
        return found


def _rank(job: Waiting) -> Rank:
    return job.requirements.rank
