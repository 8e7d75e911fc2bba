"""What is known in hindsight of vehicles' stays, and the best that was possible. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from statistics import fmean
from typing import Final, NamedTuple, TypeAlias

from load_test.central import durations
from load_test.records import Job

HOW: Final = (
    "upper bound in hindsight, by linear programming: sessions may be interrupted and shared"
)
SLOT_SECONDS: Final = 1800.0  # of the programme's time


class Stay(NamedTuple):
    """A vehicle's stay, in Unix seconds, and how long it would charge for which energy, in kWh.

    The departure is infinite where nobody knows it.
    """

    arrival: float
    departure: float
    seconds: float
    energy_kwh: float


class Bound(NamedTuple):
    """The most that was possible, as shares from 0 to 1."""

    demands_met: float
    energy_delivered: float


_MAX_PIECES: Final = 100_000  # of all stays, in slots: what is solved within a minute

# returns the bound of some stays for so many connectors
Best: TypeAlias = Callable[[Sequence[Stay], int], Bound | None]


def slot_for(known: Sequence[Stay], speed: float) -> float:
    """Return how coarse the bound of some stays should be, in s.

    Half an hour of the vehicles' time, or a session, if that is shorter; longer where there are so
    many stays that it would take too long. ``speed`` is how many seconds pass for them in one.
    """
    session = fmean(each.seconds for each in known) if known else 0.0
    total = sum(each.departure - each.arrival for each in known if each.departure < inf)
    usual = SLOT_SECONDS / speed
    return max(min(usual, session or usual), total / _MAX_PIECES)


def stays(jobs: Iterable[Job]) -> list[Stay]:
    """Return the stays of all jobs that were requested.

    A session whose length is not known takes as long as others do for its energy.
    """
    known = [each for each in jobs if each.queued is not None]
    seconds = durations(known)
    return [
        Stay(
            each.queued or 0.0,
            inf if each.departs is None else each.departs,
            seconds(each),
            each.requested_kwh or 0.0,
        )
        for each in known
    ]
