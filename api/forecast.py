"""When a waiting job will probably begin to charge. Pure.

As a central queue would serve it: whenever a connector becomes free, the next job takes it. When
one becomes free is known where the substation has said when its session ends; else it is taken to
last as long as sessions there do on average, as are those of the jobs that come first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from heapq import heapify, heapreplace
from typing import Final, NamedTuple

from api.jobs.sessions import Session

MAX_STEPS: Final = 2_000  # jobs that are served one by one; behind them, in rounds
OVERDUE_SHARE: Final = 0.1  # of the mean: so long a session lasts still that should have ended


class Place(NamedTuple):
    """A substation that may take a job.

    Args:
        places: How many sessions it may have at once.
        in_flight: How many jobs are on their way to it.
        sessions: Those in progress.
        seconds: How long they take on average; None where that is unknown.
    """

    places: int
    in_flight: int
    sessions: Collection[Session]
    seconds: float | None


class Forecast(NamedTuple):
    """When a job is expected to begin, in Unix seconds, and how that was estimated."""

    at: float
    how: str


def expected_start(place: int, substations: Iterable[Place], now: float) -> Forecast | None:
    """Return when the job at a place (from 1) among those that wait is expected to begin.

    None where no substation can take it, or nothing is known of how long sessions take.
    """
    known = list(substations)
    means = [each.seconds for each in known if each.seconds is not None]
    if not means:
        return None
    mean = sum(means) / len(means)
    free: list[float] = []
    for each in known:
        free += _free_at(each, each.seconds or mean, now)
    if not free:
        return None
    planned = sum(session.ends_at > 0 for each in known for session in each.sessions)
    counted = sum(len(each.sessions) for each in known)
    how = f"{planned} of {counted} sessions say when they end; others take {mean:.3g} s on average"
    return Forecast(_served(free, place, mean), how)


def _free_at(place: Place, mean: float, now: float) -> list[float]:
    """Return when each of a substation's places becomes free."""
    ends = [_end(each, mean, now) for each in place.sessions]
    ends += [now + mean] * place.in_flight
    ends.sort()
    # where an operator has lowered the limit, the first to end free no place
    taken = ends[max(0, len(ends) - place.places) :]
    return [now] * (place.places - len(taken)) + taken


def _end(session: Session, mean: float, now: float) -> float:
    end = session.ends_at or session.began + mean
    return end if end > now else now + OVERDUE_SHARE * mean


def _served(free: list[float], place: int, mean: float) -> float:
    """Return when the job at a place is served, by connectors that become free then."""
    steps = min(place - 1, MAX_STEPS)
    heapify(free)
    for _ in range(steps):
        heapreplace(free, free[0] + mean)
    rounds, rest = divmod(place - 1 - steps, len(free))
    return sorted(free)[rest] + rounds * mean
