"""What bookings leave to others at each time, and the earliest start there is."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.kinds import Booking
from grid.messages import ChargeRequest
from scheduling.bookings import Bookings, Room, SessionEnd
from scheduling.substation_state import SubstationState
from tests.scheduling.tables import NOW, Row, table_of

CLOCK, HOUR, KW = 10_000.0, 3600.0, 7.4
HOURS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0])


def booking(start: float, seconds: float, job: str = "booked", where: str = "s1") -> Booking:
    """Return a booking of the usual power, so many seconds from now."""
    request = ChargeRequest(job, 1.0, reserve=True)
    return Booking(request, where, CLOCK + start, CLOCK + start + seconds)


@given(
    st.integers(1, 3),
    st.lists(st.tuples(HOURS, HOURS), max_size=6),
    st.lists(HOURS, max_size=3),
    HOURS,
    HOURS.filter(bool),
)
def test_room_finds_the_first_of_all_starts_that_fit(
    places: int,
    booked: list[tuple[float, float]],
    ends: list[float],
    earliest: float,
    hours: float,
) -> None:
    """By trying each moment at which anything changes."""
    bookings = [booking(HOUR * at, HOUR * long, f"b{n}") for n, (at, long) in enumerate(booked)]
    sessions = [SessionEnd(CLOCK + HOUR * end, KW) for end in ends]
    room = Room(SubstationState("s1", places), bookings, sessions, CLOCK)
    first = CLOCK + HOUR * earliest
    times = {first, *(each.end for each in bookings), *(each.at for each in sessions)}
    times.add(CLOCK + 0.1 * HOUR)  # a session that should have ended
    fitting = [at for at in sorted(times) if at >= first and room.fits(KW, at, at + HOUR * hours)]
    assert room.first_start(KW, first, HOUR * hours) == fitting[0]


def test_room_passes_over_all_starts_before_a_time_that_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a single request for a long session would take seconds."""
    bookings = [booking(60.0 * n, 30.0, f"b{n}") for n in range(300)]
    room = Room(SubstationState("s1", 2), [*bookings, *2 * [booking(5.5 * HOUR, 1.0)]], (), CLOCK)
    looks, most_kw = 0, SubstationState.most_kw

    def counted(self: SubstationState, clock: float) -> float | None:
        nonlocal looks
        looks += 1
        return most_kw(self, clock)

    monkeypatch.setattr(SubstationState, "most_kw", counted)
    assert room.first_start(KW, CLOCK, 6 * HOUR) == CLOCK + 5.5 * HOUR + 1.0
    assert looks < 1000


def test_table_reserves_a_substation_with_bookings_for_a_job_that_lacks_power() -> None:
    """What its sessions use now becomes free: the bookings alone have to leave enough."""
    table = table_of(Row("s1", load=1, power=90.0, rated=100.0))
    name = "s1"
    states = table.tracker.substations

    def book(start: float) -> None:
        table.book(Bookings([booking(start, HOUR, where=name)], {}, states, CLOCK))

    book(5 * HOUR)
    assert table.candidates_for(95.0, (), NOW, seconds=HOUR) is None
    assert table.soonest(95.0, (), NOW, seconds=HOUR) == name
    assert table.soonest(95.0, (), NOW, seconds=6 * HOUR) is None
    book(HOUR / 2)
    assert table.soonest(95.0, (), NOW, seconds=HOUR) is None
    assert table.soonest(50.0, (), NOW, seconds=HOUR) == name
    assert table.soonest(inf, (), NOW, seconds=HOUR) is None
