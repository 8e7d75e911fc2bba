"""Which jobs make load: by the events, put right by what the substations say. Pure.

Events alone count a job for ever that nobody will end: whose queue was purged, whose record was
deleted. And they know nothing of a session whose record is gone. So what the substations say is
looked at from time to time: a job without an end that no substation has is taken to have ended by
then, and sessions that were there before the run and are no job's are counted until they are gone.
The judge's view of all other jobs is that of the events: the dispatcher has no part in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from grid.events import State
from load_test.records import Job


class Sample(NamedTuple):
    """How many jobs each substation had at ``at`` (Unix seconds); None where nobody knows."""

    at: float
    loads: Mapping[str, float | None]


def present(
    jobs: Iterable[Job], samples: Iterable[Sample], choosable: Iterable[str] = ()
) -> list[Job]:
    """Return the jobs as they made load, those without an end ended when they were gone.

    Left out is what was gone before the first sample. Sessions that are no job's come with ids of
    their own, at substations that are ``choosable`` or have jobs. Of jobs without an end those
    assigned first are taken to be gone first.
    """
    looks = sorted({sample.at: sample for sample in samples}.values())
    if not looks:
        return list(jobs)
    by_substation: dict[str, list[Job]] = {name: [] for name in choosable}
    others = []
    for job in jobs:
        if job.substation is not None and job.assigned is not None:
            by_substation.setdefault(job.substation, []).append(job)
        else:
            others.append(job)
    for name, its_jobs in by_substation.items():
        said = [(look.at, look.loads.get(name, 0.0)) for look in looks]
        known = [(at, load) for at, load in said if load is not None]
        others += _at_one(name, its_jobs, known)
    return others


def _at_one(name: str, jobs: Sequence[Job], said: Sequence[tuple[float, float]]) -> list[Job]:
    """Return the jobs of one substation, which ``said`` at each time how many it had."""
    begun = sorted(job.assigned or 0.0 for job in jobs if job.ended is not None)
    ended = sorted(job.ended for job in jobs if job.ended is not None)

    def open_at(at: float) -> int:
        return bisect_right(begun, at) - bisect_right(ended, at)

    endless = sorted(
        (job for job in jobs if job.ended is None), key=lambda job: job.assigned or 0.0
    )
    endless = (
        _strangers(name, endless, said[:2], open_at=[open_at(at) for at, _ in said[:2]]) + endless
    )
    found = [job for job in jobs if job.ended is not None]
    first = said[0][0] if said else 0.0
    for at, load in said:
        there = sum((job.assigned or 0.0) <= at for job in endless)
        gone = min(there, max(0, round(open_at(at) + there - load)))
        # what was gone before the run makes no load in it
        found += [replace(job, ended=at) for job in endless[:gone] if at > first]
        endless = endless[gone:]
    return found + endless


def _strangers(
    name: str, endless: Sequence[Job], said: Sequence[tuple[float, float]], open_at: Sequence[int]
) -> list[Job]:
    """Return a job for each session from before the run that is none of the jobs.

    Two looks must agree: at the first, a job that ended just before may still be counted.
    """
    if len(said) < 2:  # noqa: PLR2004
        return []
    start = said[0][0]
    more = (
        load - known - sum((job.assigned or 0.0) <= at for job in endless)
        for (at, load), known in zip(said, open_at, strict=True)
    )
    numbers = range(1, 1 + max(0, round(min(more))))
    return [
        Job(f"unknown {number} at {name}", State.CHARGING, name, assigned=start)
        for number in numbers
    ]
