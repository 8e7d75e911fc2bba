"""The best that is possible in hindsight: an upper bound of whatever an order reaches."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.events import State
from load_test import hindsight
from load_test.central import served
from load_test.hindsight import bound
from load_test.measures import measure
from load_test.records import Job
from load_test.stays import Stay, slot_for, stays
from tests.examples import examples

HOUR = 3600.0


def stay(arrival: float, departure: float, hours: float, kwh: float | None = None) -> Stay:
    """Make a stay of these hours, which charges at 10 kW unless it says otherwise."""
    energy = 10 * hours if kwh is None else kwh
    return Stay(HOUR * arrival, HOUR * departure, HOUR * hours, energy)


@pytest.mark.parametrize(
    ("given_stays", "connectors", "met", "energy"),
    [
        pytest.param([stay(0, 4, 2)], 1, 1, 1, id="alone"),
        pytest.param([stay(0, 2, 2), stay(0, 2, 2)], 1, 1 / 2, 1 / 2, id="one of two"),
        pytest.param([stay(0, 2, 2), stay(0, 2, 2)], 2, 1, 1, id="both, on two connectors"),
        pytest.param([stay(0, 4, 2), stay(1, 3, 2)], 1, 1, 1, id="interrupted for the other"),
        # of two hours, the two short ones take one each, and the long one nothing
        pytest.param([stay(0, 2, 1), stay(0, 2, 1), stay(0, 2, 2)], 1, 2 / 3, 1 / 2, id="short"),
        pytest.param([stay(0, 1, 2)], 1, 1 / 2, 1 / 2, id="leaves too early"),
        pytest.param([stay(0, 1, 1, 10), stay(0, 1, 1, 50)], 1, 1 / 2, 5 / 6, id="more energy"),
        pytest.param([stay(0, inf, 90), stay(0, inf, 90)], 1, 1, 1, id="for ever"),
        pytest.param([stay(0, 1, 0), stay(0, 1, 1)], 1, 1, 1, id="nothing wanted"),
    ],
)
def test_bound_of_a_few_vehicles_is_that_counted_by_hand(
    given_stays: list[Stay], connectors: int, met: float, energy: float
) -> None:
    """Energy and demands are two maxima: they need not be reached together."""
    found = bound(given_stays, connectors, exact=True)
    assert found == pytest.approx((met, energy))


def test_bound_counts_a_demand_as_met_as_the_measures_do() -> None:
    """But for a hundredth of it, and 0.1 kWh: an hour charges all but 1 % of two vehicles."""
    both = [stay(0, 1, 0.5, 2.0)] * 2
    one_percent_more = [each._replace(seconds=each.seconds * 1.01) for each in both]
    found = bound(one_percent_more, 1)
    assert found is not None
    assert found.demands_met == 1
    assert found.energy_delivered == pytest.approx(1 / 1.01)
    exact = bound(one_percent_more, 1, exact=True)
    assert exact is not None
    assert exact.demands_met == pytest.approx(1 / 1.01)


def test_bound_of_no_vehicle_is_none() -> None:
    """Nothing can be said."""
    assert bound([], 3) is None


STAYS = st.lists(
    st.builds(
        lambda arrival, longer, share: Stay(arrival, arrival + longer, share * longer, share * 7),
        st.floats(0, 50),
        st.floats(0.1, 20),
        st.floats(0.01, 1),
    ),
    min_size=1,
    max_size=25,
)


def jobs(given_stays: list[Stay]) -> list[Job]:
    """Return the jobs of these stays, as if each had begun at once and stayed for long."""
    return [
        Job(
            f"{number:03}",
            State.COMPLETED,
            "all",
            each.arrival,
            each.arrival,
            each.arrival,
            each.arrival + each.seconds,
            requested_kwh=each.energy_kwh,
            departs=each.departure,
        )
        for number, each in enumerate(given_stays)
    ]


@examples(30)
@given(STAYS, st.integers(1, 4), st.sampled_from([0.3, 1.0, 7.0, 100.0]))
def test_bound_is_never_below_what_is_reached(
    given_stays: list[Stay], connectors: int, slot: float
) -> None:
    """Here by first come, first served; however coarse the slots are."""
    made = jobs(given_stays)
    reached = measure(served(made, connectors), {each.id for each in made}, ())
    most = bound(stays(made), connectors, slot)
    assert most is not None
    assert most.demands_met >= (reached.demands_met or 0.0) - 1e-6
    assert most.energy_delivered >= (reached.energy_delivered or 0.0) - 1e-6


@examples(30)
@given(STAYS, st.integers(1, 3))
def test_bound_of_shorter_slots_is_nearer(given_stays: list[Stay], connectors: int) -> None:
    """A slot that is cut into three knows more of when a vehicle is there."""
    coarse = bound(given_stays, connectors, 6.0, exact=True)
    fine = bound(given_stays, connectors, 2.0, exact=True)
    assert coarse is not None
    assert fine is not None
    assert fine.demands_met <= coarse.demands_met + 1e-6
    assert fine.energy_delivered <= coarse.energy_delivered + 1e-6


@examples(30)
@given(STAYS, st.integers(1, 3), st.integers(1, 40))
def test_bound_in_windows_is_never_nearer(
    given_stays: list[Stay], connectors: int, variables: int
) -> None:
    """What is too large for one programme is cut where few stay across, and stays a bound."""
    whole = bound(given_stays, connectors, 1.0, exact=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hindsight, "MAX_VARIABLES", variables)
        cut = bound(given_stays, connectors, 1.0, exact=True)
    assert whole is not None
    assert cut is not None
    assert cut.demands_met >= whole.demands_met - 1e-6
    assert cut.energy_delivered >= whole.energy_delivered - 1e-6


def test_bound_in_windows_loses_nothing_where_none_stays_across() -> None:
    """Days that are apart are solved apart."""
    days = [stay(24 * day + hour, 24 * day + hour + 3, 2) for day in range(20) for hour in range(8)]
    whole = bound(days, 1, exact=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hindsight, "MAX_VARIABLES", 100)
        assert bound(days, 1, exact=True) == pytest.approx(whole)


def test_slots_are_as_long_as_the_sessions_and_the_stays_allow() -> None:
    """Half an hour of the vehicles' time; less for short sessions, more for very many stays."""
    usual = [stay(0, 4, 2)]
    assert slot_for(usual, 1.0) == 1800
    assert slot_for(usual, 3600.0) == 0.5
    assert slot_for([stay(0, 1, 1 / 60)], 1.0) == 60
    assert slot_for([stay(0, 1000, 1 / 60)] * 1000, 1.0) == 36_000
    assert slot_for([stay(0, inf, 0)], 2.0) == 900
    assert slot_for([], 1.0) == 1800


def test_stays_are_those_of_the_jobs() -> None:
    """A job that expired would have charged as long as others did for its energy."""
    done = Job("1", State.COMPLETED, "a", 0.0, 0.0, 0.0, 4.0, requested_kwh=2.0, departs=9.0)
    found = stays(
        [
            done,
            Job("2", State.EXPIRED, None, 1.0, requested_kwh=5.0, departs=3.0),
            Job("3", State.COMPLETED, "a", 2.0, 2.0, 2.0, 8.0, requested_kwh=3.0),
            # the departure has cut it: half of its energy is missing
            Job(
                "4", State.COMPLETED, "a", 3.0, 3.0, 3.0, 5.0, requested_kwh=2.0, departs=5.0,
                delivered_kwh=1.0,
            ),
            Job("5", State.COMPLETED),
        ]
    )  # fmt: skip
    assert found == [
        Stay(0.0, 9.0, 4.0, 2.0),
        Stay(1.0, 3.0, 10.0, 5.0),
        Stay(2.0, inf, 6.0, 3.0),
        Stay(3.0, 5.0, 4.0, 2.0),
    ]
