"""The field's measures: demands met, energy, utilisation, overload, fairness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.events import State
from load_test.central import floor_waits, served
from load_test.measures import (
    delivered_share,
    is_met,
    jain,
    measure,
    power_over_time,
    waiting_over_time,
)
from load_test.records import Job, Substation
from load_test.simulate.scenario import Trace
from load_test.steps import Steps, present, steps
from load_test.truth import evenly, judge

NORTH = Substation("north", 2.0, eligible=True, rated_power_kw=20.0, background_power_kw=2.0)
SOUTH = Substation("south", 2.0, eligible=True)


def job(id: str, begins: float, ends: float, at: str = "north", **more: Any) -> Job:  # noqa: ANN401
    """Make a completed job that was requested at 0 and took 10 kWh at 10 kW."""
    made = Job(
        id, State.COMPLETED, at, 0.0, begins, begins, ends, requested_kwh=10.0, power_kw=10.0
    )
    return replace(made, **more)


def test_measures_of_a_small_run_are_those_counted_by_hand() -> None:
    """Two vehicles at north, the second leaves half way; a third, at south, has no hurry."""
    jobs = [
        job("1", 0, 60, departs=60.0),
        job("2", 30, 90, departs=60.0),
        job("3", 60, 120, "south"),
    ]
    found = measure(jobs, {"1", "2", "3"}, [NORTH, SOUTH])
    assert found.demands_met == pytest.approx(2 / 3)
    assert found.energy_delivered == pytest.approx(25 / 30)
    assert found.delivered_kwh == pytest.approx(25)
    assert (found.mean_wait, found.longest_wait) == (30, 60)
    assert found.peak_utilisation == 1
    assert found.peak_power == pytest.approx(22 / 20)
    assert found.overload_minutes == pytest.approx(0.5)
    assert found.fairness_vehicles == pytest.approx(2.5**2 / (3 * 2.25))
    # 120 session seconds at north, 60 at south, each on two connectors
    assert found.fairness_substations == pytest.approx(180**2 / (2 * (120**2 + 60**2)))


def test_fairness_among_tenants_is_of_the_energy_that_they_got() -> None:
    """One got all of 20 kWh, the other half of 20: of jobs without a tenant nothing is said."""
    jobs = [
        job("1", 0, 60, tenant="buses"),
        job("2", 0, 60, tenant="buses"),
        job("3", 0, 60, tenant="taxis"),
        job("4", 0, 60, departs=0.0, tenant="taxis"),
        job("5", 0, 60, departs=0.0),
    ]
    found = measure(jobs, {each.id for each in jobs}, ())
    assert found.fairness_tenants == pytest.approx(1.5**2 / (2 * 1.25))
    assert measure(jobs[-1:], {"5"}, ()).fairness_tenants is None


def test_measures_count_minutes_as_they_pass_for_the_vehicles() -> None:
    """At a speed of 60, half a minute of overload is half an hour."""
    jobs = [job("1", 0, 60), job("2", 30, 90)]
    assert measure(jobs, (), [NORTH], speed=60).overload_minutes == pytest.approx(30)


def test_measures_of_others_jobs_are_load_alone() -> None:
    """They fill connectors, and meet no demand of ours; of nothing, nothing is known."""
    found = measure([job("x", 0, 60)], (), [NORTH])
    assert (found.peak_utilisation, found.demands_met, found.mean_wait) == (0.5, None, None)
    nothing = measure([], (), [])
    assert (nothing.demands_met, nothing.fairness_vehicles, nothing.overload_minutes) == (None,) * 3


def test_sessions_above_an_operators_limit_are_overload() -> None:
    """As after a limit that was set while they charged."""
    jobs = [job("1", 0, 60, "south"), job("2", 30, 90, "south")]
    assert measure(jobs, (), [SOUTH._replace(limit=1)]).overload_minutes == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("made", "share", "met"),
    [
        (job("1", 0, 60), 1.0, True),
        (job("1", 0, 60, departs=59.9), 59.9 / 60, True),  # 0.02 kWh are missing
        (job("1", 0, 60, departs=59.0), 59 / 60, False),
        (job("1", 0, 60, departs=59.0, requested_kwh=0.01), 59 / 60, False),  # scaled down
        (job("1", 70, 130, departs=60.0), 0.0, False),
        (job("1", 0, 60, requested_kwh=None), 1.0, True),
        (job("1", 0, 0), 1.0, True),
        (job("1", 0, 30, status=State.CANCELLED, delivered_kwh=5.0), 0.5, False),
        (job("1", 0, 30, departs=30.0, delivered_kwh=5.0), 0.5, False),  # ended by the departure
        (job("1", 0, 60, departs=60.0, delivered_kwh=9.95), 0.995, True),
        (job("1", 0, 60, departs=30.0, delivered_kwh=10.0), 0.5, False),  # it went on after it
        (job("1", 0, 30, status=State.EXPIRED, charging=None), 0.0, False),
        (job("1", 0, 30, status=State.CHARGING, ended=None), 0.0, False),
    ],
)
def test_demand_is_met_by_what_was_delivered_until_the_departure(
    made: Job,
    share: float,
    met: bool,  # noqa: FBT001
) -> None:
    """All but 0.1 kWh of it."""
    assert delivered_share(made) == pytest.approx(share)
    assert is_met(made) is met


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_jain_is_between_one_nth_and_one(values: list[float]) -> None:
    """Equal values are fair, and one that has all is not."""
    index = jain(values)
    if index is not None:
        assert 1 / len(values) - 1e-9 <= index <= 1 + 1e-9
    assert jain([3, 3, 3]) == 1
    assert jain([5, 0, 0, 0]) == 0.25
    assert jain([0, 0]) is None
    assert jain([5e-162, 5e-162]) == 1


def test_steps_are_the_sum_of_changes() -> None:
    """Those at one instant are one step."""
    found = steps([(2, -1), (0, 1), (1, 1), (2, -1), (2, 0.5)])
    assert (found.times, found.values) == ([0, 1, 2], [1, 2, 0.5])
    assert [found.at(time) for time in (-1, 0, 0.5, 1, 9)] == [0, 1, 1, 2, 0.5]
    assert (found.mean(0, 2), found.mean(-1, 1), found.mean(1, 1)) == (1.5, 0.5, 2)
    assert (found.highest(0, 1), found.highest(0, 1.5), found.highest(3, 4)) == (1, 2, 0.5)
    assert found.seconds_above(1.5) == 1
    assert Steps((), ()).peak == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=20))
def test_steps_mean_is_the_time_of_all_intervals(lives: list[tuple[int, int]]) -> None:
    """However they overlap."""
    intervals = [(begin, begin + lasts) for begin, lasts in lives]
    total = sum(lasts for _, lasts in lives)
    assert present(intervals).mean(0, 100) * 100 == pytest.approx(total)


def test_waiting_ends_with_the_session_or_without_one() -> None:
    """A job that still waits at the end has waited until then."""
    expired = job("3", 0, 50, status=State.EXPIRED, charging=None)
    still = job("4", 0, 0, status=State.QUEUED, charging=None, ended=None, queued=100.0)
    found = waiting_over_time([job("1", 10, 20), job("2", 20, 120), expired, still])
    assert [found.at(time) for time in (0, 10, 20, 50, 100)] == [3, 2, 1, 0, 1]


def test_power_of_a_request_that_names_none_is_the_usual() -> None:
    """As the substation charges it."""
    assert power_over_time([job("1", 0, 5, power_kw=None)], "north").peak == 7.4
    assert power_over_time([job("1", 0, 5)], "south").peak == 0


def test_central_queue_serves_the_jobs_as_long_as_they_took() -> None:
    """In the order of arrival; one that leaves before its turn is dropped."""
    jobs = [
        job("1", 5, 15, queued=0.0),
        job("2", 30, 40, queued=1.0),
        job("3", 90, 95, queued=2.0, departs=15.0),
        job("4", 60, 65, queued=3.0),
        job("5", 0, 2, queued=3.0, charging=None, status=State.CANCELLED),
    ]
    found = {each.id: each for each in served(jobs, 1)}
    assert [found[number].charging for number in "124"] == [0, 10, 20]
    assert (found["3"].status, found["3"].charging, found["3"].ended) == (State.EXPIRED, None, 15)
    assert "5" not in found


def test_central_queue_ends_a_session_at_the_departure() -> None:
    """It has then delivered its share, and the next begins; a cut one is whole where it can be."""
    cut = job("1", 0, 6, departs=6.0, delivered_kwh=6.0)
    assert cut.whole_seconds == 10
    first, second = served([job("0", 0, 4), cut], 1)
    assert (first.ended, second.charging, second.ended) == (4, 4, 6)
    assert second.delivered_kwh == pytest.approx(2)
    (alone,) = served([replace(cut, departs=20.0)], 1)
    assert (alone.ended, alone.delivered_kwh) == (10, 10)


def test_central_queue_estimates_the_sessions_that_never_began() -> None:
    """By their energy, as the others took; without energies, as long as the mean."""
    first, second = job("1", 0, 10), job("2", 10, 40, requested_kwh=30.0)
    expired = job("3", 0, 9, status=State.EXPIRED, charging=None, requested_kwh=5.0)
    found = {each.id: each for each in served([first, second, expired], 3)}
    assert (found["3"].charging, found["3"].ended) == (0, 5)
    unknown = replace(expired, requested_kwh=None)
    found = {each.id: each for each in served([first, second, unknown], 3)}
    assert found["3"].ended == 20


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=20),
    st.integers(1, 4),
)
def test_central_queue_waits_are_those_of_the_floor(
    lives: list[tuple[int, int]], connectors: int
) -> None:
    """One rule, whether it is asked for waits or for jobs."""
    lives = sorted(lives)
    jobs = [
        job(f"{number:03}", at, at + took, queued=float(at))
        for number, (at, took) in enumerate(lives)
    ]
    found = sorted(served(jobs, connectors), key=lambda each: each.id)
    waits = [(each.charging or 0.0) - (each.queued or 0.0) for each in found]
    trace = Trace([float(at) for at, _ in lives], [float(took) for _, took in lives])
    assert waits == pytest.approx(floor_waits(trace, connectors))


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 20), st.sampled_from("abc")), max_size=30
    ),
)
def test_even_routing_is_judged_right(lives: list[tuple[int, int, str]]) -> None:
    """Each goes to a least-loaded substation, and no job is added or lost."""
    jobs = [job(str(number), at, at + took, name) for number, (at, took, name) in enumerate(lives)]
    connectors = dict.fromkeys("abc", 4.0)
    found = evenly(jobs, connectors)
    assert sorted(each.id for each in found) == sorted(each.id for each in jobs)
    assert all(each.least_loaded for each in judge(found, connectors).values())


def test_even_routing_respects_what_is_eligible() -> None:
    """A job that names its substations stays with them."""
    jobs = [job(str(number), number, 99, "a", eligible=("a",)) for number in range(3)]
    assert {each.substation for each in evenly(jobs, {"a": 1.0, "b": 9.0})} == {"a"}
