"""How long the real system took for its steps, measured from its jobs. Pure.

A replay in virtual time has no network; where sessions are short, what that costs is a part of
every wait.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from math import inf
from statistics import median
from typing import Final, NamedTuple

from load_test.records import Job


class Latencies(NamedTuple):
    """Seconds from request to decision, from decision to session, and from an end to decision."""

    request: float
    dispatch: float
    event: float


NONE: Final = Latencies(0.0, 0.0, 0.0)


def measured(jobs: Sequence[Job], places: int) -> Latencies:
    """Return what the jobs show, of so many sessions that are allowed at once; 0 where nothing.

    The first two are of jobs that found a free connector and nobody before them, and of these the
    quick ones: others may have found no power, or may have been dispatched ahead. A free connector
    is not enough: it may be free for a moment between two sessions while many wait for it. The last
    is of jobs that found none, and were sent when the session of another had ended.
    """
    ends = sorted(each.ended for each in jobs if each.session_seconds is not None and each.ended)
    request, dispatch, event = [], [], []
    for job, before in _with_those_before(jobs):
        if job.queued is None or job.assigned is None or job.charging is None:
            continue
        if before < places:
            request.append(max(0.0, job.assigned - job.queued))
            dispatch.append(max(0.0, job.charging - job.assigned))
        elif place := bisect_right(ends, job.assigned):
            event.append(max(0.0, job.assigned - ends[place - 1]))
    return Latencies(_quick(request), _quick(dispatch), median(event) if event else 0.0)


def _with_those_before(jobs: Sequence[Job]) -> Iterator[tuple[Job, int]]:
    """Yield the jobs as they came, each with how many were in progress before it.

    Those that have not ended do not count: they may be lost.
    """
    ends: list[float] = []  # of those in progress, the first at the front
    for job in sorted(jobs, key=lambda job: job.queued or -inf):
        while ends and ends[0] <= (job.queued or -inf):
            heappop(ends)
        yield job, len(ends)
        if job.ended is not None:
            heappush(ends, job.ended)


def _quick(seconds: Sequence[float]) -> float:
    """Return the value that a fifth is below."""
    return sorted(seconds)[len(seconds) // 5] if seconds else 0.0
