"""The simulation against known figures.

8 substations of one connector, Poisson arrivals, exponential sessions, utilisation 0.9, all pages
read at the same instant; mean waits in mean session times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from random import Random
from statistics import fmean
from typing import Final

import pytest

from load_test.simulate.compare import compare, setting_of
from load_test.simulate.engine import Simulation
from load_test.simulate.policies import POLICIES
from load_test.simulate.scenario import Demand, Durations, Setting
from tests.examples import ARE_FEW, jobs
from tests.load_test.simulate import singles
from tests.load_test.simulate.runs import chance, run

SETTING = Setting((1,) * 8, 0.0, in_step=True)
MARGIN = 0.12 if ARE_FEW else 0.05  # chance is in every figure, and more where jobs are few


def demand(number: int) -> Demand:
    """Return the demand of the reference, of so many jobs."""
    return Demand(number, 0.9, Durations(1.0))


def test_floor_agrees_with_erlangs_formula() -> None:
    """Erlang's formula for 8 connectors gives 0.877."""
    found = compare([], [], SETTING, demand(jobs(300_000)), chance)
    assert found.floor.mean_wait == pytest.approx(0.877, rel=MARGIN)


CHOICES: Final[dict[str, Callable[[Random], singles.Choice]]] = {
    "random": singles.by_lot,
    "round-robin": lambda _: singles.round_robin(),
    "least-gauge": singles.least_gauge,
}
# the figures as they are known, of mean waits
KNOWN: Final = [
    ("random", 10, 8.92),
    ("round-robin", 10, 4.80),
    ("least-gauge", 1, 2.97),
    ("least-gauge", 5, 11.6),
]


@pytest.mark.parametrize(("name", "period", "mean_wait"), KNOWN)
def test_simple_simulation_of_baseline_policies_agrees_with_known_results(
    name: str, period: float, mean_wait: float
) -> None:
    """It is as simple as can be, and quick: long waits vary most, and need many jobs."""
    trace = demand(jobs(400_000)).trace(8, chance("trace"))
    found = singles.waits(CHOICES[name](chance("run")), period, trace)
    assert fmean(found) == pytest.approx(mean_wait, rel=MARGIN)


@pytest.mark.parametrize(("name", "period", "mean_wait"), KNOWN)
def test_simulation_agrees_with_a_simpler_one_for_baseline_policies(
    name: str, period: float, mean_wait: float
) -> None:
    """Each job waits just as long as in the other simulation, with the same picks.

    And each pick is one that the policy may make, by the gauges of the other one. A policy that is
    simulated wrongly would make the others look good.
    """
    trace = demand(30_000).trace(8, chance("trace"))
    setting = setting_of(name, replace(SETTING, period=period))
    policy = singles.Recorded(POLICIES[name]())
    found = Simulation(setting, trace, policy, chance("run")).run().waits
    choose = singles.again(policy.picks, ALLOWED[name]())
    others = singles.waits(choose, period, trace)
    assert max(abs(ours - theirs) for ours, theirs in zip(found, others, strict=True)) < 1e-6
    assert fmean(found) == pytest.approx(mean_wait, rel=0.3)
    shares = Counter(policy.picks).values()
    assert max(shares) < 1.1 * min(shares)
    if name == "random":
        followed = Counter(pairwise(policy.picks)).values()
        assert len(followed) == 64
        assert max(followed) < 1.5 * min(followed)


def any_pick() -> Callable[[list[int], int], bool]:
    """Return that any is allowed."""
    return lambda _gauges, _number: True


def next_pick() -> Callable[[list[int], int], bool]:
    """Return whether it is the turn of the one that is picked."""
    turns = count()
    return lambda _gauges, number: number == next(turns) % 8


def lowest_pick() -> Callable[[list[int], int], bool]:
    """Return whether none has a lower gauge."""
    return lambda gauges, number: gauges[number] == min(gauges)


ALLOWED: Final = {"random": any_pick, "round-robin": next_pick, "least-gauge": lowest_pick}


@pytest.mark.parametrize(
    ("name", "period", "mean_wait"),
    [("least-gauge", 0, 1.13), ("power-of-two", 1, 2.41), ("power-of-two", 5, 3.53)],
)
def test_baseline_policies_agree_with_known_results(
    name: str, period: float, mean_wait: float
) -> None:
    """These by the engine alone."""
    found = run(name, replace(SETTING, period=period), demand(jobs(60_000)))
    assert found.mean_wait == pytest.approx(mean_wait, rel=MARGIN)


@pytest.mark.parametrize(("period", "mean_wait"), [(1, 1.54), (5, 2.23)])
def test_gauge_plus_own_dispatches_agrees_with_known_results(
    period: float, mean_wait: float
) -> None:
    """Without events and central waiting, the load is gauge + own dispatches since the page."""
    setting = replace(SETTING, period=period, event_latency=None, waits=False)
    found = run("least-loaded", setting, demand(jobs(60_000)))
    assert found.mean_wait == pytest.approx(mean_wait, rel=MARGIN)
