"""Was each job routed to a least-loaded substation? Judged after the fact, from the times alone.

The dispatcher's own view has no part in it. A substation's true load is the number of jobs assigned
to it and not yet ended, relative to the substation's connectors, so that unequal ones compare.
Every job makes load; a sweep over all beginnings and ends replays it in O(n log n).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from statistics import fmean

from load_test.records import Job

_END, _BEGIN = 0, 1  # at one instant an end comes first: it makes room for what begins


@dataclass(frozen=True, slots=True)
class Judgement:
    """How one job was routed, and how uneven the load was just after.

    ``least_loaded``: no other substation that was eligible had a lower relative load just before.
    ``spread``: the highest less the lowest load, in sessions of a substation of mean size.
    """

    least_loaded: bool
    spread: float


def judge(jobs: Iterable[Job], connectors: Mapping[str, float]) -> dict[str, Judgement]:
    """Return the judgement on each job that was assigned, by its id.

    ``connectors`` holds the substations that could be chosen. One that only the jobs name is added
    with the mean number of connectors; if none is known all count as equal. Of jobs assigned at one
    instant, those queued earlier are judged first, else in the order given.
    """
    assigned = [job for job in jobs if job.assigned is not None and job.substation is not None]
    loads = _Loads(_complete(connectors, assigned))
    judgements = {}
    for kind, job in _sweep(assigned):
        if kind == _BEGIN:
            least = loads.of(str(job.substation)) <= loads.least(job.eligible)
            loads.change(str(job.substation), +1)
            judgements[job.id] = Judgement(least, loads.spread())
        if kind == _END or _is_instant(job):
            loads.change(str(job.substation), -1)
    return judgements


def evenly(jobs: Iterable[Job], connectors: Mapping[str, float]) -> list[Job]:
    """Return the jobs as they would have been routed by one who knows each load as it truly is.

    Their times stay as they are; each goes to the substation, of those it may go to, with the
    lowest load once it is there.
    """
    assigned = [job for job in jobs if job.assigned is not None and job.substation is not None]
    loads = _Loads(_complete(connectors, assigned))
    routed: dict[str, Job] = {}
    for kind, job in _sweep(assigned):
        if kind == _BEGIN:
            name = loads.least_after(job.eligible)
            routed[job.id] = replace(job, substation=name)
            loads.change(name, +1)
        if kind == _END or _is_instant(job):
            loads.change(str(routed[job.id].substation), -1)
    return list(routed.values())


def _complete(connectors: Mapping[str, float], jobs: Iterable[Job]) -> dict[str, float]:
    usual = fmean(connectors.values()) if connectors else 1.0
    return {**{str(job.substation): usual for job in jobs}, **connectors}


def _sweep(jobs: Iterable[Job]) -> Iterator[tuple[int, Job]]:
    moments = []
    for job in jobs:
        moments.append((job.assigned or 0.0, _BEGIN, job.queued or 0.0, job))
        if job.ended is not None and not _is_instant(job):
            moments.append((job.ended, _END, 0.0, job))
    moments.sort(key=lambda moment: moment[:3])
    return ((kind, job) for _, kind, _, job in moments)


def _is_instant(job: Job) -> bool:
    """Return whether a job ended no later than it began, as two clocks can make it seem."""
    return job.ended is not None and job.ended <= (job.assigned or 0.0)


class _Loads:
    """The relative load of every substation, and the lowest and the highest of them.

    Each change adds to two heaps; outdated entries are dropped when they reach the top.
    """

    def __init__(self, connectors: Mapping[str, float]) -> None:
        self._connectors = connectors
        self._usual = fmean(connectors.values()) if connectors else 1.0
        self._sessions = dict.fromkeys(connectors, 0)
        self._lowest = [(0.0, name) for name in connectors]
        self._highest = [(0.0, name) for name in connectors]
        heapify(self._lowest)
        heapify(self._highest)

    def of(self, name: str) -> float:
        return self._sessions[name] / self._connectors[name]

    def change(self, name: str, by: int) -> None:
        self._sessions[name] += by
        heappush(self._lowest, (self.of(name), name))
        heappush(self._highest, (-self.of(name), name))

    def least(self, eligible: Iterable[str]) -> float:
        """Return the lowest load among the substations named, or among all if none is."""
        named = [self.of(name) for name in eligible if name in self._sessions]
        return min(named) if named else self._top(self._lowest, +1)

    def least_after(self, eligible: Iterable[str]) -> str:
        """Return the substation named, or of all if none is, with the least load after one more."""
        named = [name for name in eligible if name in self._sessions] or self._sessions
        return min(named, key=lambda n: ((self._sessions[n] + 1) / self._connectors[n], n))

    def spread(self) -> float:
        width = -self._top(self._highest, -1) - self._top(self._lowest, +1)
        return round(width * self._usual, 6)  # whole sessions, but for rounding

    def _top(self, heap: list[tuple[float, str]], sign: int) -> float:
        while heap[0][0] != sign * self.of(heap[0][1]):
            heappop(heap)
        return heap[0][0]
