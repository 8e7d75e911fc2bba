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
from grid.messages import MAX_UNIX_TIME

MAX_STEPS: Final = 2_000  # jobs that are served one by one; behind them, in rounds
MAX_PLACES: Final = 10_000  # of a substation that are looked at: its page may say anything
OVERDUE_SHARE: Final = 0.1  # of the mean: so long a session lasts still that should have ended


class Place(NamedTuple):
    """A substation that may take a job.

    Args:
        places: How many sessions it may have at once, by its connectors and its power.
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


class Forecaster:
    """When jobs are expected to begin that wait for the same substations, as of ``now``."""

    def __init__(self, substations: Iterable[Place], now: float) -> None:
        known = list(substations)
        means = [each.seconds for each in known if each.seconds is not None]
        self._mean = sum(means) / len(means) if means else 0.0
        self._free: list[float] = []  # a heap: when each place becomes free for the next job
        self._starts: list[float] = []  # of the first places among those that wait
        if means:
            for each in known:
                self._free += _free_at(each, each.seconds or self._mean, now)
            heapify(self._free)
        planned = sum(session.ends_at > 0 for each in known for session in each.sessions)
        counted = sum(len(each.sessions) for each in known)
        self._how = (
            f"{planned} of {counted} sessions say when they end; "
            f"others take {self._mean:.3g} s on average"
        )

    @property
    def mean_seconds(self) -> float | None:
        """Return how long sessions take there on average; None where that is unknown."""
        return self._mean or None

    def start(self, place: int) -> Forecast | None:
        """Return when the job at a place (from 1) among those that wait is expected to begin.

        None where no substation can take it, or nothing is known of how long sessions take.
        """
        if not self._free:
            return None
        while len(self._starts) < min(place, MAX_STEPS):
            at = self._free[0]
            heapreplace(self._free, at + self._mean)
            self._starts.append(at)
        if place <= MAX_STEPS:
            at = self._starts[place - 1]
        else:
            rounds, rest = divmod(place - MAX_STEPS - 1, len(self._free))
            at = sorted(self._free)[rest] + rounds * self._mean
        return Forecast(at, self._how) if at < MAX_UNIX_TIME else None


def _free_at(place: Place, mean: float, now: float) -> list[float]:
    """Return when each of a substation's places becomes free."""
    places = min(place.places, MAX_PLACES)
    ends = [_end(each, mean, now) for each in place.sessions]
    ends += [now + mean] * min(place.in_flight, MAX_PLACES)
    ends.sort()
    # where an operator has lowered the limit, the first to end free no place
    taken = ends[max(0, len(ends) - places) :]
    return [now] * (places - len(taken)) + taken


def _end(session: Session, mean: float, now: float) -> float:
    end = session.ends_at or session.began + mean
    return end if end > now else now + OVERDUE_SHARE * mean
