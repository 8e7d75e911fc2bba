"""The figures of a run, beside the floor that no policy can go below. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from load_test.central import floor_waits
from load_test.simulate.engine import Outcome
from load_test.simulate.scenario import Trace


@dataclass(frozen=True, slots=True)
class Figures:
    """The result of one policy at one period.

    Waits and the period are in mean session times; ``ratio`` is the mean wait to that of the floor;
    ``misroutes`` is a share from 0 to 1; ``spread`` is in sessions.
    """

    policy: str
    period: float
    mean_wait: float
    p99_wait: float
    ratio: float | None
    misroutes: float
    spread: float
    restarts: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Floor:
    """The waits of a central first-come-first-served queue, in mean session times."""

    mean_wait: float
    p99_wait: float


def floor(trace: Trace, connectors: int, session: float) -> Floor:
    """Return the floor of a trace, for so many connectors in all and a mean session time in s."""
    waits = floor_waits(trace, connectors)
    return Floor(fmean(waits) / session, _p99(waits) / session)


def figures(policy: str, period: float, outcome: Outcome, least: Floor, session: float) -> Figures:
    """Compare a run with the floor; ``period`` and the mean ``session`` time are in s."""
    mean_wait = fmean(outcome.waits) / session
    return Figures(
        policy,
        period / session,
        mean_wait,
        _p99(outcome.waits) / session,
        mean_wait / least.mean_wait if least.mean_wait else None,
        outcome.misroutes / len(outcome.waits),
        outcome.spread,
        outcome.restarts,
    )


def _p99(waits: Sequence[float]) -> float:
    return sorted(waits)[int(0.99 * (len(waits) - 1))]
