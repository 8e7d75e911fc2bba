"""The ideal: one central queue, which no policy without the durations can beat. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from heapq import heapreplace
from itertools import repeat
from math import inf
from statistics import fmean

from grid.events import State
from load_test.records import Job
from load_test.simulate.scenario import Trace


def floor_waits(trace: Trace, connectors: int, stays: Sequence[float] | None = None) -> list[float]:
    """Return each job's wait, in s, with one queue in front of all connectors, told at once.

    ``stays`` is how long each vehicle stays at most; one that leaves earlier waits until then.
    """
    free_at = [0.0] * connectors
    waits = []
    for arrival, duration, stay in zip(*trace, stays or repeat(inf), strict=stays is not None):
        start = max(arrival, free_at[0])
        waits.append(min(start - arrival, stay))
        if start < arrival + stay:
            heapreplace(free_at, min(start + duration, arrival + stay))
    return waits


def served(jobs: Iterable[Job], connectors: int) -> list[Job]:
    """Return the jobs as one queue in front of all connectors would have served them.

    First come, first served; each takes as long as it did, at most until its vehicle leaves, and
    one that leaves before its turn is dropped. A job whose session is not known takes as long as
    others do for its energy. Jobs that were cancelled or parked before they began are left out:
    nobody knows for how long they waited.
    """
    waited = [each for each in jobs if each.queued is not None and _would_charge(each)]
    seconds = durations(waited)
    free_at = [0.0] * connectors
    found = []
    for job in sorted(waited, key=lambda each: (each.queued or 0.0, each.id)):
        start = max(job.queued or 0.0, free_at[0])
        if job.expires_at is not None and start >= job.expires_at:
            found.append(replace(job, status=State.EXPIRED, charging=None, ended=job.expires_at))
            continue
        whole = seconds(job)
        end = start + whole if job.departs is None else min(start + whole, job.departs)
        heapreplace(free_at, end)
        found.append(replace(charged(job, start, end, whole), assigned=start))
    return found


def charged(job: Job, start: float, end: float, whole: float) -> Job:
    """Return a job as completed by a session from start to end; a whole one takes ``whole`` s.

    It delivers all that is requested, or its share where the departure ends it.
    """
    energy_kwh = job.requested_kwh
    if energy_kwh is not None and job.departs is not None and whole > 0:
        energy_kwh *= min(1.0, max(0.0, job.departs - start) / whole)
    return replace(job, status=State.COMPLETED, charging=start, ended=end, delivered_kwh=energy_kwh)


def durations(jobs: Iterable[Job]) -> Callable[[Job], float]:
    """Return what says how long a job's whole session takes, in s: as it did, or as others' did."""
    known = [(each, took) for each in jobs if (took := each.whole_seconds) is not None]
    mean = fmean(took for _, took in known) if known else 0.0
    energy = sum(each.requested_kwh or 0.0 for each, _ in known)
    of_energy = [took for each, took in known if each.requested_kwh]
    per_kwh = sum(of_energy) / energy if energy else None

    def seconds(job: Job) -> float:
        if (took := job.whole_seconds) is not None:
            return took
        if per_kwh is None or not job.requested_kwh:
            return mean
        return per_kwh * job.requested_kwh

    return seconds


def _would_charge(job: Job) -> bool:
    is_aside = job.status in (State.CANCELLED, State.PARKED)
    return job.charging is not None or not is_aside
