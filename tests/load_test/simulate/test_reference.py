"""The simulation against known figures.

8 substations of one connector, Poisson arrivals, exponential sessions, utilisation 0.9, all pages
read at the same instant; mean waits in mean session times.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from load_test.simulate.compare import compare
from load_test.simulate.scenario import Demand, Durations, Setting
from tests.load_test.simulate.runs import chance, run

SETTING = Setting((1,) * 8, 0.0, in_step=True)
MARGIN = 0.05


def demand(jobs: int) -> Demand:
    """Return the demand of the reference."""
    return Demand(jobs, 0.9, Durations(1.0))


def test_floor_agrees_with_erlangs_formula() -> None:
    """Erlang's formula for 8 connectors gives 0.877."""
    found = compare([], [], SETTING, demand(300_000), chance)
    assert found.floor.mean_wait == pytest.approx(0.877, rel=MARGIN)


@pytest.mark.parametrize(
    ("name", "period", "mean_wait"),
    [
        ("random", 10, 8.92),
        ("round-robin", 10, 4.80),
        ("least-gauge", 0, 1.13),
        ("least-gauge", 1, 2.97),
        ("least-gauge", 5, 11.6),
        ("power-of-two", 1, 2.41),
        ("power-of-two", 5, 3.53),
    ],
)
def test_baseline_policies_agree_with_known_results(
    name: str, period: float, mean_wait: float
) -> None:
    """A policy that is simulated wrongly would make the others look good."""
    jobs = 400_000 if mean_wait > 4 else 60_000  # long waits vary most
    assert run(name, replace(SETTING, period=period), demand(jobs)).mean_wait == pytest.approx(
        mean_wait, rel=MARGIN
    )


@pytest.mark.parametrize(("period", "mean_wait"), [(1, 1.54), (5, 2.23)])
def test_gauge_plus_own_dispatches_agrees_with_known_results(
    period: float, mean_wait: float
) -> None:
    """Without events and central waiting, the load is gauge + own dispatches since the page."""
    setting = replace(SETTING, period=period, event_latency=None, waits=False)
    found = run("least-loaded", setting, demand(60_000))
    assert found.mean_wait == pytest.approx(mean_wait, rel=MARGIN)
