"""The figures of a run, beside the floor that no policy can go below. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from load_test.central import floor_waits
from load_test.measures import WHOLE, jain
from load_test.simulate.engine import Outcome
from load_test.simulate.scenario import Trace


@dataclass(frozen=True, slots=True)
class Figures:
    """The result of one policy at one period.

    Waits and the period are in mean session times; ``ratio`` is the mean wait to that of the floor;
    ``misroutes`` is a share from 0 to 1; ``spread`` is in sessions. ``demands_met`` is the share of
    the vehicles that got all of their energy, ``energy_delivered`` that of the energy, ``fairness``
    Jain's index of the shares that vehicles got.
    """

    policy: str
    period: float
    mean_wait: float
    p99_wait: float
    ratio: float | None
    misroutes: float
    spread: float
    restarts: int = 0
    longest_wait: float = 0.0
    demands_met: float = 1.0
    energy_delivered: float = 1.0
    fairness: float | None = 1.0

    def as_json(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Floor:
    """The waits of a central first-come-first-served queue, in mean session times."""

    mean_wait: float
    p99_wait: float


def floor(
    trace: Trace, connectors: int, session: float, stays: Sequence[float] | None = None
) -> Floor:
    """Return the floor of a trace, for so many connectors in all and a mean session time in s.

    ``stays`` is how long each vehicle stays at most, in s.
    """
    waits = floor_waits(trace, connectors, stays)
    return Floor(fmean(waits) / session, _p99(waits) / session)


def figures(
    policy: str,
    period: float,
    outcome: Outcome,
    *,
    durations: Sequence[float],
    least: Floor,
    session: float,
) -> Figures:
    """Compare a run with the floor; ``period`` and the mean ``session`` time are in s.

    ``durations`` is how long each session takes if its vehicle stays, in s.
    """
    mean_wait = fmean(outcome.waits) / session
    times = list(zip(outcome.starts, outcome.ends, durations, strict=True))
    charged = [0.0 if start is None or end is None else end - start for start, end, _ in times]
    got = [
        min(1.0, seconds / duration) if duration else 1.0
        for seconds, duration in zip(charged, durations, strict=True)
    ]
    return Figures(
        policy,
        period / session,
        mean_wait,
        _p99(outcome.waits) / session,
        mean_wait / least.mean_wait if least.mean_wait else None,
        outcome.misroutes / len(outcome.waits),
        outcome.spread,
        outcome.restarts,
        longest_wait=max(outcome.waits) / session,
        demands_met=fmean(share >= WHOLE for share in got),
        energy_delivered=min(1.0, sum(charged) / (sum(durations) or 1.0)),
        fairness=jain(got),
    )


def _p99(waits: Sequence[float]) -> float:
    return sorted(waits)[int(0.99 * (len(waits) - 1))]
