"""How near ``least-loaded`` comes to the floor: mean wait ÷ that of one central queue.

Sessions take 3.5 s on average and events 10 ms, where nothing else is said.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from load_test.simulate.scenario import Demand, Durations, Setting
from tests.load_test.simulate.runs import run, runs

EXPONENTIAL = Durations(3.5)
UNIFORM = Durations(2.0, 5.0)
SINGLE = Setting((1,) * 8, 3.5)
TENS = Setting((10,) * 3, 2.0)
GOAL = 1.05


def ratio(setting: Setting, demand: Demand) -> float:
    """Give mean wait ÷ floor of least-loaded."""
    found = run("least-loaded", setting, demand).ratio
    assert found is not None
    return found


@pytest.mark.parametrize("sessions", [0, 1, 10])
@pytest.mark.parametrize("utilisation", [0.7, 0.9])
def test_single_connectors(sessions: float, utilisation: float) -> None:
    """It does not matter how old the gauges are, as long as the events come."""
    setting = replace(SINGLE, period=sessions * EXPONENTIAL.mean)
    assert ratio(setting, Demand(40_000, utilisation, EXPONENTIAL)) <= GOAL


@pytest.mark.parametrize("period", [0.5, 10.0])
def test_three_substations_of_ten(period: float) -> None:
    """The same with the system's own sessions, of 2 to 5 s."""
    setting = replace(TENS, period=period)
    assert ratio(setting, Demand(40_000, 0.9, UNIFORM)) <= GOAL


def test_three_substations_of_ten_nearly_full_with_events_of_2_ms() -> None:
    """What is missing there is the hand-over: at a fifth of it the goal is reached."""
    setting = replace(TENS, event_latency=0.002)
    assert ratio(setting, Demand(50_000, 0.98, UNIFORM)) <= GOAL


@pytest.mark.parametrize(
    ("connectors", "jobs", "burst"),
    [
        pytest.param((2, 4, 8, 16), 50_000, 16, id="unequal, bursts"),
        pytest.param((1,) * 8, 50_000, 16, id="single, bursts"),
        pytest.param((10,) * 3, 50_000, 16, id="three of ten, bursts"),
    ],
)
def test_other_substations_and_arrivals(connectors: tuple[int, ...], jobs: int, burst: int) -> None:
    """Unequal substations, and jobs that come 16 at a time."""
    assert ratio(Setting(connectors, 3.5), Demand(jobs, 0.9, EXPONENTIAL, burst)) <= GOAL


@pytest.mark.parametrize(("connectors", "jobs"), [((4,) * 100, 20_000), ((2, 4, 8, 16), 50_000)])
def test_other_substations_with_events_of_1_ms(connectors: tuple[int, ...], jobs: int) -> None:
    """Here too it is the hand-over: where little waits, 10 ms are much of it."""
    setting = Setting(connectors, 3.5, event_latency=0.001)
    assert ratio(setting, Demand(jobs, 0.9, EXPONENTIAL)) <= GOAL


CUT_OFF = replace(SINGLE, event_latency=None)


def test_events_cut_off_sent_at_once() -> None:
    """Not waiting for pages is the remedy: 1.8 is reached where all pages are read in step."""
    setting = replace(CUT_OFF, waits=False, in_step=True)
    ours, theirs = runs(["least-loaded", "round-robin"], setting, Demand(100_000, 0.9, EXPONENTIAL))
    assert ours.ratio is not None
    assert ours.ratio <= 1.8
    assert ours.mean_wait <= theirs.mean_wait
