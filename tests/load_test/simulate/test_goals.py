"""How near ``least-loaded`` comes to the floor: mean wait ÷ that of one central queue.

Sessions take 3.5 s on average and events 10 ms, unless stated otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest

from load_test.central import floor_waits
from load_test.simulate.engine import Simulation
from load_test.simulate.policies import POLICIES
from load_test.simulate.scenario import Demand, Durations, Outage, Setting
from tests.examples import jobs
from tests.load_test.simulate.runs import chance, run, runs

EXPONENTIAL = Durations(3.5)
UNIFORM = Durations(2.0, 5.0)
SINGLE = Setting((1,) * 8, 3.5)
TENS = Setting((10,) * 3, 2.0)
HUNDRED = Setting((4,) * 100, 3.5)
GOAL = 1.05
JOBS = jobs(8_000, 3_000)  # the floor gets the same: the ratio varies little


def ratio(setting: Setting, demand: Demand) -> float:
    """Return the mean wait of least-loaded ÷ that of the floor."""
    found = run("least-loaded", setting, demand).ratio
    assert found is not None
    return found


@pytest.mark.parametrize("sessions", [0, 1, 10])
@pytest.mark.parametrize("utilisation", [0.7, 0.9])
def test_wait_is_at_the_floor_for_single_connectors(sessions: float, utilisation: float) -> None:
    """The age of the gauges does not matter as long as events come."""
    setting = replace(SINGLE, period=sessions * EXPONENTIAL.mean)
    assert ratio(setting, Demand(JOBS, utilisation, EXPONENTIAL)) <= GOAL


@pytest.mark.parametrize("period", [0.5, 10.0])
@pytest.mark.parametrize("utilisation", [0.9, 0.98])
def test_wait_is_at_the_floor_for_three_substations_of_ten(
    period: float, utilisation: float
) -> None:
    """The same with the system's own sessions, of 2 to 5 s, even when they are nearly full."""
    setting = replace(TENS, period=period)
    assert ratio(setting, Demand(JOBS, utilisation, UNIFORM)) <= GOAL


@pytest.mark.parametrize(
    ("connectors", "burst"),
    [
        pytest.param((2, 4, 8, 16), 1, id="unequal"),
        pytest.param((2, 4, 8, 16), 16, id="unequal, bursts"),
        pytest.param((1,) * 8, 16, id="single, bursts"),
        pytest.param((10,) * 3, 16, id="three of ten, bursts"),
    ],
)
def test_wait_is_at_the_floor_for_unequal_substations_and_bursts(
    connectors: tuple[int, ...], burst: int
) -> None:
    """Unequal substations, and jobs that come 16 at a time."""
    assert ratio(Setting(connectors, 3.5), Demand(JOBS, 0.9, EXPONENTIAL, burst)) <= GOAL


def test_wait_of_a_hundred_substations_exceeds_the_floor_only_by_event_delay() -> None:
    """Waits are so short that 10 ms count: the floor is that with sessions 10 ms longer.

    Before the event, no policy can know that a connector has become free.
    """
    demand = Demand(jobs(15_000, 10_000), 0.9, EXPONENTIAL)
    trace = demand.trace(400, chance("trace"))
    later = trace._replace(durations=[each + 0.01 for each in trace.durations])
    least = fmean(floor_waits(later, 400)) / fmean(floor_waits(trace, 400))
    assert ratio(HUNDRED, demand) <= least * 1.02
    assert ratio(replace(HUNDRED, event_latency=0.002), demand) <= GOAL


@pytest.mark.parametrize("sessions", [1, 10])
@pytest.mark.parametrize("utilisation", [0.7, 0.9])
def test_wait_without_events_beats_round_robin_for_single_connectors(
    sessions: float, utilisation: float
) -> None:
    """By pages alone it is better than round robin, however old they are."""
    setting = replace(SINGLE, period=sessions * EXPONENTIAL.mean, event_latency=None)
    least = 12_000 if utilisation == 0.9 else 5_000
    number = jobs(20_000, least) if sessions == 1 else JOBS
    demand = Demand(number, utilisation, EXPONENTIAL)
    ours, theirs = runs(["least-loaded", "round-robin"], setting, demand)
    assert ours.mean_wait <= theirs.mean_wait
    if sessions == 1 and utilisation == 0.9:
        assert ours.ratio is not None
        assert ours.ratio <= 1.8


@pytest.mark.parametrize(("utilisation", "period"), [(0.9, 0.5), (0.9, 10.0), (0.98, 10.0)])
def test_wait_without_events_matches_round_robin_for_three_of_ten(
    utilisation: float, period: float
) -> None:
    """Here round robin is hard to beat: if pages are three sessions old, the two are equal."""
    setting = replace(TENS, period=period, event_latency=None)
    is_close = (utilisation, period) == (0.9, 10.0)
    demand = Demand(40_000 if is_close else jobs(20_000, 8_000), utilisation, UNIFORM)
    ours, theirs = runs(["least-loaded", "round-robin"], setting, demand)
    assert ours.mean_wait <= theirs.mean_wait


def test_wait_is_at_the_floor_three_scrapes_after_an_outage() -> None:
    """Three scrapes after a substation is back, jobs wait as if its state had always been known."""
    period, back = 2.0, 40.0
    over = []
    for seed in range(jobs(20)):
        trace = Demand(600, 0.6, UNIFORM).trace(30, chance(f"trace {seed}"))
        outage = (Outage(1, 20, back),)
        ours, best = (
            Simulation(
                Setting(TENS.connectors, each, outages=outage),
                trace,
                POLICIES["least-loaded"](),
                chance("run"),
            )
            .run()
            .waits
            for each in (period, 0.0)
        )
        rows = zip(trace.arrivals, ours, best, strict=True)
        over += [wait - least for at, wait, least in rows if at > back + 3 * period]
    assert fmean(over) <= 0.01
