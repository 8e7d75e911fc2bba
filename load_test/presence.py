"""Which jobs make load: by the event log, corrected by what the substations report. Pure.

The events alone count a job for ever if nobody will write its end, since its queue was purged, and
they lack a session whose record was deleted. So the loads that the substations report are sampled:
a job without an end that no substation has any more is taken to have ended by then, and sessions
from before the run that belong to no job are counted until they are gone. All other jobs are judged
by their events alone: the dispatcher's view has no part in that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from grid.events import State
from load_test.records import Job


class Sample(NamedTuple):
    """How many jobs each substation had at ``at`` (Unix seconds); None if nobody knows."""

    at: float
    loads: Mapping[str, float | None]


def present(
    jobs: Iterable[Job], samples: Iterable[Sample], choosable: Iterable[str] = ()
) -> list[Job]:
    """Return the jobs with the times at which they made load: each without an end gets one.

    Jobs that were gone before the first sample are left out. Sessions that belong to no job get ids
    of their own, at substations that are ``choosable`` or have jobs. Of jobs without an end, those
    assigned first are taken to be gone first.
    """
    ordered = sorted({sample.at: sample for sample in samples}.values())
    if not ordered:
        return list(jobs)
    by_substation: dict[str, list[Job]] = {name: [] for name in choosable}
    others = []
    for job in jobs:
        if job.substation is not None and job.assigned is not None:
            by_substation.setdefault(job.substation, []).append(job)
        else:
            others.append(job)
    for name, its_jobs in by_substation.items():
        reported = [(sample.at, sample.loads.get(name, 0.0)) for sample in ordered]
        known = [(at, load) for at, load in reported if load is not None]
        others += _at_one(name, its_jobs, known)
    return others


def _at_one(name: str, jobs: Sequence[Job], reported: Sequence[tuple[float, float]]) -> list[Job]:
    """Return the jobs of one substation; ``reported`` are times with its load."""
    begun = sorted(job.assigned or 0.0 for job in jobs if job.ended is not None)
    ended = sorted(job.ended for job in jobs if job.ended is not None)

    def open_at(at: float) -> int:
        return bisect_right(begun, at) - bisect_right(ended, at)

    endless = sorted(
        (job for job in jobs if job.ended is None), key=lambda job: job.assigned or 0.0
    )
    endless = (
        _unknown_sessions(
            name, endless, reported[:2], open_at=[open_at(at) for at, _ in reported[:2]]
        )
        + endless
    )
    found = [job for job in jobs if job.ended is not None]
    first = reported[0][0] if reported else 0.0
    for at, load in reported:
        there = sum((job.assigned or 0.0) <= at for job in endless)
        gone = min(there, max(0, round(open_at(at) + there - load)))
        # a job that was gone before the run makes no load in it
        found += [replace(job, ended=at) for job in endless[:gone] if at > first]
        endless = endless[gone:]
    return found + endless


def _unknown_sessions(
    name: str,
    endless: Sequence[Job],
    reported: Sequence[tuple[float, float]],
    open_at: Sequence[int],
) -> list[Job]:
    """Return a job for each session from before the run that belongs to no job.

    Two samples must agree: the first may still count a job that ended just before.
    """
    if len(reported) < 2:  # noqa: PLR2004
        return []
    start = reported[0][0]
    more = (
        load - known - sum((job.assigned or 0.0) <= at for job in endless)
        for (at, load), known in zip(reported, open_at, strict=True)
    )
    numbers = range(1, 1 + max(0, round(min(more))))
    return [
        Job(f"unknown {number} at {name}", State.CHARGING, name, assigned=start)
        for number in numbers
    ]
