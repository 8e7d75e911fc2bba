"""How long jobs waited: percentiles, and the mean beside that of one central queue. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from load_test.central import floor_waits
from load_test.records import Job
from load_test.simulate.scenario import Trace


class Percentiles(NamedTuple):
    """Three percentiles, in seconds."""

    p50: float
    p95: float
    p99: float


class Waits(NamedTuple):
    """Mean waits from queued to charging, in seconds; None if it is unknown.

    ``ideal`` is that of the same jobs in one first-come-first-served queue in front of all
    connectors, for the same arrivals and the same durations.
    """

    mean: float | None
    ideal: float | None

    @property
    def above(self) -> float | None:
        """Return how much longer the wait was than the ideal."""
        return None if self.mean is None or self.ideal is None else self.mean - self.ideal


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """Return the percentiles, with linear interpolation; None if there is no value."""
    ordered = sorted(values)
    return Percentiles(*(_quantile(ordered, q) for q in (0.50, 0.95, 0.99))) if ordered else None


def beside_ideal(own: Container[str], jobs: Iterable[Job], connectors: int | None) -> Waits:
    """Return the mean wait of the jobs named in ``own``, from the recorded times alone.

    All other jobs take part in the ideal as well: they occupied connectors. A session whose end is
    not known lasts to the latest time recorded. ``connectors`` are all there are, None if unknown.
    """
    sessions = sorted(_sessions(jobs))
    mine = [session.job in own for session in sessions]
    if not any(mine):
        return Waits(None, None)
    waits = [session.charging - session.queued for session in sessions]
    if not connectors:
        return Waits(_mean_of(mine, waits), None)
    trace = Trace([each.queued for each in sessions], [each.seconds for each in sessions])
    return Waits(_mean_of(mine, waits), _mean_of(mine, floor_waits(trace, connectors)))


class _Session(NamedTuple):
    queued: float
    charging: float
    seconds: float
    job: str


def _sessions(jobs: Iterable[Job]) -> Iterable[_Session]:
    begun = [
        (job.queued, job.charging, job.ended, job.id)
        for job in jobs
        if job.queued is not None and job.charging is not None
    ]
    latest = max((ended or charging for _, charging, ended, _ in begun), default=0.0)
    for queued, charging, ended, job in begun:
        # not below 0: a second copy may begin to charge after the first has ended
        seconds = max((latest if ended is None else ended) - charging, 0.0)
        yield _Session(queued, charging, seconds, job)


def _mean_of(mine: Sequence[bool], waits: Sequence[float]) -> float:
    return fmean(wait for is_mine, wait in zip(mine, waits, strict=True) if is_mine)


def _quantile(ordered: Sequence[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
