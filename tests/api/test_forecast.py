"""When a waiting job is expected to begin."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.forecast import MAX_STEPS, Forecast, Forecaster, Place
from api.jobs.job import Job
from api.jobs.sessions import Session, Sessions
from grid.events import Event, State

NOW = 1_000.0


def expected_start(place: int, substations: list[Place], now: float) -> Forecast | None:
    """Return the forecast for one job."""
    return Forecaster(substations, now).start(place)


def test_forecast_is_the_end_of_the_first_session_where_substations_say_it() -> None:
    """Of three sessions, the one that ends first is for the first that waits."""
    sessions = [Session(NOW - 5, NOW + rest) for rest in (30, 10, 20)]
    place = Place(3, 0, sessions, seconds=60)
    starts = [expected_start(number, [place], NOW) for number in (1, 2, 3, 4)]
    assert [each and each.at - NOW for each in starts] == [10, 20, 30, 70]
    assert starts[0] is not None
    assert starts[0].how == "3 of 3 sessions say when they end; others take 60 s on average"


def test_forecast_takes_the_mean_where_nobody_says_when_a_session_ends() -> None:
    """What it has taken so far counts; one that should be over is about to end."""
    sessions = [Session(NOW - 20, 0), Session(NOW - 100, 0)]
    place = Place(2, 0, sessions, seconds=60)
    starts = [expected_start(number, [place], NOW) for number in (1, 2)]
    assert [each and each.at - NOW for each in starts] == [6, 40]


def test_forecast_counts_jobs_in_flight_and_free_places() -> None:
    """A place that is free is taken at once, one whose job is on its way after a whole session."""
    assert expected_start(1, [Place(2, 1, [], 60)], NOW) == (NOW, _how(0, 0, 60))
    assert expected_start(2, [Place(2, 1, [], 60)], NOW) == (NOW + 60, _how(0, 0, 60))


def test_forecast_counts_only_places_within_the_limit() -> None:
    """An operator allows one session of two: the first that ends makes no room."""
    sessions = [Session(NOW, NOW + 10), Session(NOW, NOW + 20)]
    found = expected_start(1, [Place(1, 0, sessions, 60)], NOW)
    assert found is not None
    assert found.at == NOW + 20


def test_forecast_takes_any_number_of_connectors() -> None:
    """A page may say anything; so many places as nobody waits for are not listed."""
    place = Place(10**15, 10**15, [Session(NOW, NOW + 10)], 60)
    found = expected_start(1, [place], NOW)
    assert found is not None
    assert found.at >= NOW


def test_forecast_is_unknown_without_substations_or_a_session_that_ended() -> None:
    """Then nobody can say."""
    assert expected_start(1, [], NOW) is None
    assert expected_start(1, [Place(2, 0, [], None)], NOW) is None
    assert expected_start(1, [Place(0, 0, [], 60)], NOW) is None


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=20),
    st.floats(1, 100),
    st.integers(1, 3 * MAX_STEPS),
)
def test_forecast_is_that_of_a_central_queue(rests: list[float], mean: float, number: int) -> None:
    """As if each job that waits were served in turn; far behind, to a fraction of the mean."""
    sessions = [Session(NOW - 1, NOW + rest + 0.001) for rest in rests]
    found = expected_start(number, [Place(len(rests), 0, sessions, mean)], NOW)
    assert found is not None
    heap = [each.ends_at for each in sessions]
    heapify(heap)
    start = 0.0
    for _ in range(number):
        start = heappop(heap)
        heappush(heap, start + mean)
    assert found.at == pytest.approx(start, rel=1e-9, abs=0 if number <= MAX_STEPS else mean)


def test_sessions_follow_the_event_log() -> None:
    """A session is at one substation until its job ends, or is sent elsewhere."""
    sessions, job = Sessions(), Job("j1", 1)

    def apply(kind: State, at: float, where: str, ends_at: float = 0.0) -> None:
        event = Event(kind, at, "j1", where, 1, ends_at=ends_at)
        job.apply(kind, event)
        sessions.apply(event, job)

    apply(State.ASSIGNED, NOW, "s1")
    apply(State.CHARGING, NOW + 1, "s1", ends_at=NOW + 9)
    assert list(sessions.at("s1")) == [Session(NOW + 1, NOW + 9)]
    apply(State.ASSIGNED, NOW + 2, "s2")
    assert list(sessions.at("s1")) == []
    apply(State.CHARGING, NOW + 3, "s2")
    apply(State.COMPLETED, NOW + 7, "s2")
    assert list(sessions.at("s2")) == []
    assert (sessions.seconds("s1"), sessions.seconds("s2")) == (8, 4), "as planned, as it took"
    apply(State.CHARGING, NOW + 3, "s2")
    assert list(sessions.at("s2")) == [], "it is over"


def test_sessions_believe_no_plan_that_cannot_be() -> None:
    """A substation may write anything; a time that is no date would be answered with an error."""
    sessions, job = Sessions(), Job("j1", 1)
    for ends_at in (1e15, NOW - 1):
        event = Event(State.CHARGING, NOW, "j1", "s1", 1, ends_at=ends_at)
        job.apply(State.CHARGING, event)
        sessions.apply(event, job)
        assert list(sessions.at("s1")) == [Session(NOW, 0.0)]
    assert sessions.seconds("s1") is None
    assert expected_start(10**12, [Place(1, 0, [], 1e6)], NOW) is None


def test_sessions_forget_job_that_is_not_kept() -> None:
    """A substation may write of any number of jobs that nobody requested."""
    sessions, job = Sessions(), Job("j1", 1)
    event = Event(State.CHARGING, NOW, "j1", "s1", 1)
    job.apply(State.CHARGING, event)
    sessions.apply(event, job)
    sessions.forget("j1")
    sessions.forget("j2")
    assert list(sessions.at("s1")) == []


def _how(planned: int, counted: int, mean: float) -> str:
    others = f"others take {mean:.3g} s on average"
    return f"{planned} of {counted} sessions say when they end; {others}"
