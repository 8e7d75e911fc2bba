from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from grid.errors import ConfigurationError
from load_test.central import floor_waits
from load_test.simulate.engine import Outcome, Simulation
from load_test.simulate.policies import POLICIES
from load_test.simulate.scenario import Demand, Durations, Outage, Setting, Site, Trace
from scheduling.order import Requirements
from scheduling.substation_state import EVENTS_STALE_SECONDS

EXPONENTIAL = Durations(1.0)


def simulate(setting: Setting, trace: Trace, name: str = "least-loaded") -> Outcome:
    """Run a policy over a trace."""
    return Simulation(setting, trace, POLICIES[name](), Random(1)).run()  # noqa: S311


def trace_of(jobs: int, connectors: int, utilisation: float = 0.9, burst: int = 1) -> Trace:
    """Draw a trace."""
    return Demand(jobs, utilisation, EXPONENTIAL, burst).trace(connectors, Random(1))  # noqa: S311


def test_floor_is_one_queue_in_front_of_all_connectors() -> None:
    """The oldest takes the connector that is free first."""
    trace = Trace([0, 0, 1, 2, 9], [4, 2, 3, 1, 1])
    assert floor_waits(trace, 2) == [0, 0, 1, 2, 0]
    assert floor_waits(trace, 1) == [0, 4, 5, 7, 1]


SETTINGS = st.builds(
    Setting,
    connectors=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    period=st.just(0.0),
    event_latency=st.floats(0, EVENTS_STALE_SECONDS),  # later, the event log is taken as cut off
)


@given(SETTINGS, st.sampled_from([0.5, 0.95]), st.integers(1, 5))
def test_least_loaded_with_instant_pages_equals_the_floor(
    setting: Setting, utilisation: float, burst: int
) -> None:
    """With every change read at once, least-loaded is the central queue, job by job."""
    connectors = sum(setting.connectors)
    trace = trace_of(150, connectors, utilisation, burst)
    outcome = simulate(replace(setting, send_ahead=False), trace)
    assert outcome.waits == pytest.approx(floor_waits(trace, connectors), abs=1e-9)
    assert outcome.misroutes == 0


@given(st.floats(0.1, 5), st.floats(0, 1))
def test_events_without_delay_equal_instant_pages(period: float, latency: float) -> None:
    """However seldom and late pages are read, the events alone keep the load tracker right."""
    trace = trace_of(150, 7)
    setting = Setting((1, 2, 4), period, event_latency=0.0, page_latency=latency, send_ahead=False)
    outcome = simulate(setting, trace)
    assert outcome.waits == pytest.approx(floor_waits(trace, 7), abs=1e-9)
    assert outcome.misroutes == 0


def test_late_event_delays_the_next_job_by_its_lateness() -> None:
    """One connector, two jobs: the second is sent when the end of the first is known."""
    trace = Trace([0.0, 0.0], [1.0, 1.0])
    assert simulate(Setting((1,), 50, event_latency=0.25), trace).waits == [0, 1.25]
    assert simulate(Setting((1,), 50, event_latency=0.25, waits=False), trace).waits == [0, 1]


def test_job_is_dispatched_ahead_while_enough_others_wait() -> None:
    """It begins when the connector is free, and not when that is known; the last two wait.

    No job is dispatched ahead before a page shows, here at 50 s, that sessions are brief.
    """
    trace = Trace([0.0, 0.0] + [60.0] * 5, [1.0] * 7)
    setting = Setting((1,), 50, event_latency=0.25, in_step=True)
    assert simulate(setting, trace).waits == [0, 1.25, 0, 1, 2, 3, 4.25]
    later = replace(setting, send_ahead=False)
    assert simulate(later, trace).waits == [0, 1.25, 0, 1.25, 2.5, 3.75, 5]


def test_without_events_a_request_waits_for_the_next_page() -> None:
    """The end of a session is seen where its substation is read, and when the page arrives."""
    trace = Trace([0.0, 0.0], [1.0, 1.0])
    setting = Setting((1,), 2.0, event_latency=None, in_step=True)
    assert simulate(setting, trace).waits == [0, 2]
    later = Setting((1,), 2.0, event_latency=None, in_step=True, page_latency=0.5)
    assert simulate(later, trace).waits == [0, 2.5]


def test_baseline_policies_send_at_once_by_the_last_gauge() -> None:
    """Between two pages all jobs go where the gauge was lowest; it counts what waits there."""
    trace = Trace([0.0, 0.5, 0.6, 0.7], [9.0, 1.0, 1.0, 1.0])
    setting = Setting((1, 1), 0.4, counters=False, waits=False, in_step=True)
    outcome = simulate(setting, trace, "least-gauge")
    assert outcome.waits == pytest.approx([0, 0, 0.9, 1.8])
    assert outcome.misroutes == 1  # the last: two are there, and one at the other
    assert outcome.spread == 1


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("period", [0.0, 0.7])
def test_outage_of_a_substation_loses_no_job(name: str, period: float) -> None:
    """What a substation charged when it failed is charged from the beginning when it is back."""
    trace = trace_of(2000, 12, 0.8)
    waits = name == "least-loaded"
    setting = Setting((4, 4, 4), period, counters=waits, waits=waits, outages=(Outage(1, 50, 70),))
    outcome = simulate(setting, trace, name)
    assert 0 < outcome.restarts <= 4
    assert max(outcome.waits) >= 70 - 50
    assert len(outcome.waits) == 2000


def test_load_tracker_is_right_again_after_an_outage() -> None:
    """Whoever comes a while after the substation is back waits as if it had never been away."""
    trace = trace_of(6000, 12, 0.6)
    back = 80.0
    setting = Setting(
        (4, 4, 4), 0.5, event_latency=0.0, send_ahead=False, outages=(Outage(1, 50, back),)
    )
    rows = zip(trace.arrivals, simulate(setting, trace).waits, floor_waits(trace, 12), strict=True)
    later = [(wait, least) for at, wait, least in rows if at > back + 40]
    assert [wait for wait, _ in later] == pytest.approx([least for _, least in later], abs=1e-9)


def test_simulation_is_the_same_for_the_same_seed() -> None:
    """Chance is an argument: nothing else makes two runs differ."""
    trace = trace_of(500, 8)
    setting = Setting((1,) * 8, 1.0)
    assert simulate(setting, trace) == simulate(setting, trace)


@given(st.integers(1, 5), st.integers(1, 40))
def test_burst_arrives_at_one_instant(burst: int, jobs: int) -> None:
    """So many jobs have one arrival; arrivals never fall, and each job has a duration."""
    arrivals, durations = trace_of(jobs, 3, burst=burst)
    assert len(arrivals) == len(durations) == jobs
    assert arrivals == sorted(arrivals)
    assert len(set(arrivals)) == -(-jobs // burst)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Demand(0, 0.5, EXPONENTIAL), "jobs and burst must be at least 1"),
        (lambda: Demand(1, 1.0, EXPONENTIAL), "below 1, got 1"),
        (lambda: Setting((), 1), "a connector or more"),
        (lambda: Setting((1, 0), 1), "a connector or more"),
        (lambda: Setting((1,), -1), "period must be 0 s or more, got -1"),
        (lambda: Setting((1,), 1, event_latency=nan), "event_latency must be 0 s or more, got nan"),
        (
            lambda: Setting((1,), 1, outages=(Outage(1, 0, 1),)),
            "an outage needs a known substation",
        ),
        (
            lambda: Setting((1,), 1, outages=(Outage(0, 2, 1),)),
            "an outage needs a known substation",
        ),
        (lambda: Setting((1,), 1, outages=(Outage(0, 5, 9), Outage(0, 1, 5))), "over before"),
        (
            lambda: Setting((1,), 1, outages=(Outage(0, 1, inf),)),
            "an outage needs a known substation",
        ),
        (lambda: Durations(0.0), "above 0"),
        (lambda: Durations(3.0, 2.0), "rise"),
    ],
)
def test_simulation_refuses_impossible_scenarios(make: Callable[[], object], words: str) -> None:
    """The error names the value."""
    with pytest.raises(ConfigurationError, match=words):
        make()


def needs(arrivals: list[float], **more: float) -> list[Requirements]:
    """Return what each job needs, first come first served unless ``more`` says otherwise."""
    usual = Requirements((0.0, inf, 0.0, ""), (), 7.4, inf)
    return [structs.replace(usual, rank=(0.0, inf, at, ""), **more) for at in arrivals]


def test_vehicle_that_has_left_is_dropped_wherever_it_waits() -> None:
    """In the wait queue at its departure, at the substation when its turn comes."""
    trace = Trace([0.0, 0.0, 0.0], [5.0, 5.0, 5.0])
    for waits in (True, False):
        setting = Setting((1,), 0.0, event_latency=0.0, waits=waits, send_ahead=False)
        leaving = [needs([0.0])[0], *needs([0.1], departs_at=3.0), *needs([0.2], departs_at=6.0)]
        simulation = Simulation(
            setting,
            trace,
            POLICIES["least-loaded"](),
            Random(1),  # noqa: S311
            needs=leaving,
        )
        outcome = simulation.run()
        assert outcome.starts == [0, None, 5]
        assert outcome.waits == [0, 3, 5]
        assert outcome.stations == [0, None if waits else 0, 0]


def test_session_ends_at_the_departure_and_its_connector_is_free() -> None:
    """The first is cut at 3 s, the second begins then; one that stays charges for all its time."""
    trace = Trace([0.0, 0.0], [5.0, 5.0])
    leaving = [*needs([0.0], departs_at=3.0), *needs([0.1], departs_at=9.0)]
    setting = Setting((1,), 0.0, event_latency=0.0, send_ahead=False)
    policy = POLICIES["least-loaded"]()
    outcome = Simulation(setting, trace, policy, Random(1), needs=leaving).run()  # noqa: S311
    assert outcome.starts == [0, 3]
    assert outcome.ends == [3, 8]


def test_copies_of_substations_have_their_limits_and_rated_powers() -> None:
    """Two sessions are allowed at the first, and the second has power for one."""
    sites = [Site("a", 5, limit=2), Site("b", 5, rated_power_kw=20.0, background_power_kw=10.0)]
    trace = Trace([0.0] * 6, [10.0] * 6)
    outcome = Simulation(
        Setting((5, 5), 0.0, event_latency=0.0, send_ahead=False),
        trace,
        POLICIES["least-loaded"](),
        Random(1),  # noqa: S311
        needs=needs([0.0] * 6),
        sites=sites,
    ).run()
    begun = zip(outcome.stations, outcome.starts, strict=True)
    assert sorted(str(station) for station, at in begun if at == 0) == ["0", "0", "1"]
    assert sorted(outcome.waits) == [0, 0, 0, 10, 10, 10]


def test_latencies_of_request_and_dispatch_are_part_of_the_wait() -> None:
    """A free connector is reached after both; a taken one after the event of its end, too."""
    trace = Trace([0.0, 0.0], [1.0, 1.0])
    setting = Setting(
        (1,), 50, event_latency=0.25, send_ahead=False, request_latency=0.5, dispatch_latency=0.125
    )
    outcome = simulate(setting, trace)
    assert outcome.sent == [0.5, 1.875]
    assert outcome.starts == outcome.waits == [0.625, 2.0]
