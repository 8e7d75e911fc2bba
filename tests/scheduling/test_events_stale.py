"""Whether the event log tells of a substation; where it does not, only its pages do."""

from __future__ import annotations

import pytest

from grid.events import Counts
from scheduling.readings import Reading
from scheduling.substation_state import EVENTS_STALE_SECONDS
from tests.scheduling.trackers import RUN, A, page, synced, tracker_of

LATE = EVENTS_STALE_SECONDS + 0.1


def test_events_are_stale_when_a_page_stays_ahead_of_them() -> None:
    """A page may overtake an event; if the event does not follow, the log is cut off."""
    tracker, state = synced()
    tracker.read(A, page(1, 1), 10)
    assert not state.events_stale(10)
    assert not state.events_stale(10 + EVENTS_STALE_SECONDS)
    assert state.events_stale(10 + LATE)


def test_events_stale_time_counts_from_the_first_page_ahead() -> None:
    """Further pages ahead of the events do not extend the time."""
    tracker, state = synced()
    for number in range(1, 5):
        tracker.read(A, page(number, number), 10 + number / 2)
    assert state.events_stale(10.5 + LATE)


def test_events_are_fresh_again_when_they_catch_up_with_the_page() -> None:
    """The events are fresh as soon as they report what the page showed."""
    tracker, state = synced()
    tracker.read(A, page(2, 2), 10)
    tracker.report(A, Counts(1, 1, 0, 0, RUN))
    assert state.events_stale(20), "that is half of it"
    tracker.report(A, Counts(2, 2, 0, 0, RUN))
    assert not state.events_stale(20)


def test_events_that_lag_a_little_are_not_stale() -> None:
    """On a busy substation each page is ahead of the last event, and none for long."""
    tracker, state = synced()
    for number in range(1, 20):
        tracker.read(A, page(number, number), number / 2)
        assert not state.events_stale(number / 2)
        tracker.report(A, Counts(number, number, 0, 0, RUN))
        assert not state.events_stale(number / 2 + 100)


def test_events_of_an_idle_substation_are_not_stale() -> None:
    """Without sessions there are no events, however long that lasts."""
    tracker, state = synced(load=3, accepted=9)
    for second in range(100):
        tracker.read(A, page(3, 9, 6), second)
    assert not state.events_stale(1000)


def test_dropped_second_copy_does_not_make_events_stale() -> None:
    """It has no event, so none is missing."""
    tracker, state = synced()
    tracker.read(A, Reading(0, 50, counts=Counts(0, 0, 0, 1, RUN)), 1)
    assert not state.events_stale(100)


@pytest.mark.parametrize("run", [RUN, RUN + 1])
def test_first_page_of_a_run_does_not_make_events_stale(run: float) -> None:
    """Earlier events have been read, or never will be."""
    tracker = tracker_of()
    tracker.read(A, page(7, 70, 63), 0)
    tracker.read(A, page(8, 71, 63), 1)
    state = tracker.substations[A]
    tracker.read(A, page(8, 71, 63, run=run), 2)
    assert state.events_stale(2 + LATE) == (run == RUN)


def test_event_of_an_earlier_run_is_ignored() -> None:
    """Its counters have another baseline."""
    tracker, state = synced()
    tracker.read(A, page(1, 1), 1)
    tracker.report(A, Counts(9, 99, 90, 0, RUN - 1))
    assert state.events_stale(1 + LATE)


def test_events_of_a_substation_without_counters_are_stale() -> None:
    """Its events, if there are any, say nothing of its load."""
    tracker = tracker_of()
    state = tracker.substations[A]
    assert state.events_stale(0)
    tracker.read(A, Reading(0), 0)
    assert state.events_stale(0)


@pytest.mark.parametrize(
    ("session_seconds", "period", "jobs"),
    [
        (None, 0.5, 50),  # as many as it has connectors
        (50.0, 0.5, 2),  # 50 complete one a second, and a part of one is one
        (3.5, 0.5, 22),
        (0.5, 0.5, 150),
        (3600.0, 0.5, 1),
    ],
)
def test_dispatch_ahead_with_stale_events_covers_three_page_intervals(
    session_seconds: float | None, period: float, jobs: float
) -> None:
    """In three periods, so that the connectors are hardly ever idle."""
    tracker = tracker_of()
    tracker.read(A, Reading(0, 50, session_seconds=session_seconds), 0)
    assert tracker.substations[A].ahead(period) == jobs


def test_session_time_is_kept_when_a_page_lacks_it() -> None:
    """A page that does not say takes nothing away."""
    tracker = tracker_of()
    tracker.read(A, Reading(0, 50, session_seconds=50), 0)
    tracker.read(A, Reading(0, 50), 1)
    assert tracker.substations[A].ahead(0.5) == 2


@pytest.mark.parametrize(("connectors", "expected"), [(1, 0.0), (10, 3.6)])
def test_dispatch_ahead_by_pages_depends_on_the_number_of_connectors(
    connectors: float, expected: float
) -> None:
    """8 charge, and the next page shows none: with one connector that holds, with ten not quite."""
    tracker = tracker_of()

    def reading(load: float, completed: float) -> Reading:
        counts = Counts(load, 8, completed, 0, RUN)
        return Reading(load, connectors, counts=counts, session_seconds=1e9)

    tracker.read(A, reading(8, 0), 0)
    # no event tells of what has completed
    tracker.read(A, reading(8 if connectors > 1 else 0, 8), 1)
    tracker.read(A, reading(0, 8), 1 + LATE)
    state = tracker.substations[A]
    assert state.events_stale(1 + LATE)
    assert state.expected_load(1 + LATE) == pytest.approx(expected)
