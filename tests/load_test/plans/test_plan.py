"""The plan: when requests are due, and what they ask for."""

# ruff: noqa: S311  # the runs are to be repeatable, not secret

from __future__ import annotations

from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.errors import ConfigurationError
from grid.messages import ChargeRequest
from load_test.plans.plan import Plan, Request
from load_test.plans.schedule import (
    SCHEDULES,
    Closed,
    Poisson,
    RushHour,
    Schedule,
    Spike,
    Steady,
    Stretch,
    Sustained,
)
from load_test.plans.vehicles import Vehicle, mix


def offsets(schedule: Schedule, seed: int = 0) -> list[float]:
    """Return when the requests of a schedule are due."""
    return list(Plan(schedule=schedule).offsets(Random(seed)))


def requests(plan: Plan, seed: int = 0) -> list[Request]:
    """Return the requests of a plan."""
    return list(plan.requests(Random(seed), Random(seed)))


def test_plan_spaces_even_arrivals_by_the_rate() -> None:
    """Requests at a rate of 4 are due a quarter of a second apart, the first at once."""
    assert offsets(Steady(requests=4, rate=4)) == [0, 0.25, 0.5, 0.75]


def test_plan_of_a_closed_loop_has_no_times() -> None:
    """With a concurrency every request is due at once: the answers set the pace."""
    assert offsets(Closed(requests=3, senders=2)) == [0, 0, 0]
    assert Plan(schedule=Closed(senders=2)).senders == 2
    assert Plan().senders is None


def test_plan_of_poisson_arrivals_has_the_rate_on_average() -> None:
    """Random arrivals come at the rate asked for, with gaps as spread as their mean."""
    due = offsets(Poisson(requests=20_000, rate=50), 1)
    gaps = [later - earlier for earlier, later in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / 50, rel=0.03)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.05)


def counted(due: list[float], since: float, until: float) -> int:
    """Return how many are due in a time."""
    return sum(since <= each < until for each in due)


def test_rush_hour_rises_to_its_peak_and_falls_again() -> None:
    """The rate of each part is the one planned; the peak is in the middle."""
    due = offsets(RushHour(rate=10, peak_rate=50, seconds=100, spacing="even"))
    assert len(due) == 10 * 20 + 30 * 30 + 30 * 30 + 10 * 20
    assert counted(due, 0, 20) == counted(due, 80, 100) == 200
    assert counted(due, 48, 52) == pytest.approx(4 * 50, rel=0.05)
    assert counted(due, 20, 50) == pytest.approx(counted(due, 50, 80), abs=1)


def test_spike_is_at_its_time_alone() -> None:
    """Before and after it, the base rate holds."""
    plan = Spike(rate=2, spike_rate=100, spike_at=10, spike_seconds=3, seconds=30, spacing="even")
    due = offsets(plan)
    assert [counted(due, *each) for each in ((0, 10), (10, 13), (13, 30))] == [20, 300, 34]


def test_sustained_rate_is_reached_by_a_rise() -> None:
    """In the rise, half as many requests are due as after it; from then on the rate holds."""
    due = offsets(Sustained(rate=20, seconds=100, ramp_seconds=10, spacing="even"))
    assert (counted(due, 0, 10), counted(due, 10, 110)) == (100, 2000)
    at_once = offsets(Sustained(rate=20, seconds=1, ramp_seconds=0, spacing="even"))
    assert at_once == pytest.approx([number / 20 for number in range(20)])


@given(
    st.floats(0.01, 1e4),
    st.just(0.0) | st.floats(0.01, 1e4),
    st.floats(0.01, 1e3),
    st.just(0.0) | st.floats(1e-9, 1),
)
def test_stretch_is_reached_where_the_integral_of_its_rate_is(
    seconds: float, begin: float, end: float, share: float
) -> None:
    """Integrated up to the time returned, the rate gives the number asked for."""
    stretch = Stretch(seconds, begin, end)
    wanted = share * stretch.requests
    at = stretch.reached(wanted)
    assert 0 <= at <= seconds * (1 + 1e-6)
    rate = begin + (end - begin) * at / seconds
    assert at * (begin + rate) / 2 == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", ["rush-hour", "spike", "sustained"])
def test_random_arrivals_follow_the_same_profile(kind: str) -> None:
    """There are as many on average, up to the chance of a Poisson process."""
    schedule = SCHEDULES[kind]
    even = len(offsets(schedule(spacing="even")))  # type: ignore[call-arg]
    drawn = [len(offsets(schedule(), seed)) for seed in range(30)]
    assert sum(drawn) / 30 == pytest.approx(even, rel=0.05)


@given(st.integers(), st.sampled_from(sorted(SCHEDULES)))
def test_plan_is_the_same_for_the_same_seed(seed: int, kind: str) -> None:
    """Two runs of one seed send the same requests at the same times, which never fall."""
    plan = Plan(schedule=SCHEDULES[kind]())
    first = list(islice(plan.offsets(Random(seed)), 200))
    assert first == list(islice(plan.offsets(Random(seed)), 200)) == sorted(first)
    first_requests = list(islice(plan.requests(Random(seed), Random(seed)), 50))
    assert first_requests == list(islice(plan.requests(Random(seed), Random(seed)), 50))


@given(st.integers())
def test_plan_makes_valid_requests_of_different_vehicles(seed: int) -> None:
    """What is sent lies within the contract, and no two vehicles are the same."""
    sent = requests(Plan(schedule=Steady(requests=50)), seed)
    assert len({ChargeRequest("a", 1.0, **each.fields(1.0)).vehicle_id for each in sent}) == 50


def test_plan_makes_bodies_lazily() -> None:
    """A long run costs nothing before it starts."""
    endless = Plan(schedule=Steady(requests=10**12)).requests(Random(0), Random(0))
    assert len(list(islice(endless, 3))) == 3


MIX = (
    Vehicle(
        name="bus",
        share=3,
        energy_kwh=(80, 120),
        power_kw=(50, 50),
        priority=5,
        stay_minutes=(60, 60),
        max_wait_minutes=10,
        tenant="buses",
    ),
    Vehicle(name="van", share=1, energy_kwh=(20, 20), eligible_substations=("north", "south")),
)


def test_mix_has_each_kind_in_its_share() -> None:
    """Three of four are buses; each asks for what its kind does."""
    found = list(islice(mix(MIX, Random(3)), 4000))
    buses = [each for each in found if each.body["vehicle_id"].startswith("bus-")]
    vans = [each for each in found if each.body["vehicle_id"].startswith("van-")]
    assert len(buses) == pytest.approx(3000, rel=0.03)
    assert {(each.body["priority"], each.body["requested_power_kw"]) for each in buses} == {(5, 50)}
    assert all(80 <= each.body["requested_energy_kwh"] <= 120 for each in buses)
    van = vans[0].body
    assert (van["requested_energy_kwh"], van["eligible_substations"]) == (20, ["north", "south"])
    assert not van.keys() & {"priority", "tenant", "max_wait_seconds"}
    assert {each.body["tenant"] for each in buses} == {"buses"}
    assert (buses[0].stay_seconds, vans[0].stay_seconds) == (3600, None)


def test_times_of_a_vehicle_pass_at_the_plans_speed() -> None:
    """At a speed of 60, a stay of an hour is over a minute after the request was due.

    The longest wait is as much shorter.
    """
    (bus,) = requests(Plan(schedule=Steady(requests=1), vehicles=MIX[:1], speed=60))
    assert bus.fields(1000.0)["departure_time"] == 1060
    assert bus.fields(1000.0)["max_wait_seconds"] == 10
    assert "departure_time" not in Request(0, 0.0, {}).fields(1000.0)


def test_vehicle_that_begins_later_asks_for_a_start() -> None:
    """Its earliest start passes at the plan's speed; one that would leave before is refused."""
    bus = {"begins_after_minutes": 30, "stay_minutes": 60, "reserve": True}
    plan = Plan.of(schedule={"kind": "steady", "requests": 1}, vehicles=[bus], speed=60)
    (found,) = requests(plan)
    fields = found.fields(1000.0)
    assert (fields["earliest_start"], fields["departure_time"]) == (1030, 1060)
    assert ChargeRequest("a", 1000.0, **fields).reserve
    (plain,) = requests(Plan(schedule=Steady(requests=1)))
    assert not plain.fields(1000.0).keys() & {"earliest_start", "reserve"}
    with pytest.raises(ConfigurationError, match=r"vehicles\[0\] begins_after_minutes"):
        Plan.of(vehicles=[bus | {"begins_after_minutes": [30, 60]}])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"requests": 0}, "requests must be at least 1, got 0"),
        ({"rate": 0.0}, "rate must be above 0 a second, got 0"),
        ({"rate": float("nan")}, "rate must be above 0 a second, got nan"),
        ({"rate": float("inf")}, "rate must be above 0 a second, got inf"),
        ({"kind": "closed", "senders": 0}, "senders must be at least 1, got 0"),
        ({"kind": "spike", "spike_at": 59}, "must end after the spike: spike_at 59 s"),
        ({"kind": "spike", "spike_seconds": 0}, "must be above 0 and at most 604800 seconds"),
        ({"kind": "sustained", "ramp_seconds": -1}, "must be from 0 to 604800 seconds, got -1"),
    ],
)
def test_plan_refuses_impossible_arguments(fields: dict[str, Any], problem: str) -> None:
    """The error names the value that is wrong."""
    kind = SCHEDULES[fields.get("kind", "steady")]
    with pytest.raises(ConfigurationError, match=problem):
        kind.of(**fields)
