"""How long the real system took for its steps, measured from its jobs. Pure.

A replay in virtual time has no network; where sessions are short, what that costs is a part of
every wait.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

from load_test.records import Job
from load_test.steps import present


class Latencies(NamedTuple):
    """Seconds from request to decision, from decision to session, and from an end to decision."""

    request: float
    dispatch: float
    event: float


NONE: Final = Latencies(0.0, 0.0, 0.0)


def measured(jobs: Sequence[Job], places: int) -> Latencies:
    """Return what the jobs show, of so many sessions that are allowed at once; 0 where nothing.

    The first two are of jobs that found a free connector and nobody before them, and of these the
    quick ones: others may have found no power, or may have been dispatched ahead. A connector alone
    may be free for a moment between two sessions, with many waiting for it. The last is of jobs
    that found none, and were sent when the session of another had ended.
    """
    known = ((each.queued, each.ended) for each in jobs)
    in_progress = present((a, b) for a, b in known if a is not None and b is not None)
    ends = sorted(each.ended for each in jobs if each.session_seconds is not None and each.ended)
    request, dispatch, event = [], [], []
    for job in jobs:
        if job.queued is None or job.assigned is None or job.charging is None:
            continue
        if in_progress.at(job.queued) <= places:  # this job is one of them
            request.append(max(0.0, job.assigned - job.queued))
            dispatch.append(max(0.0, job.charging - job.assigned))
        elif place := bisect_right(ends, job.assigned):
            event.append(max(0.0, job.assigned - ends[place - 1]))
    return Latencies(_quick(request), _quick(dispatch), median(event) if event else 0.0)


def _quick(seconds: Sequence[float]) -> float:
    """Return the value that a fifth is below."""
    return sorted(seconds)[len(seconds) // 5] if seconds else 0.0
