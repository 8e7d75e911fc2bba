"""Power: what other consumers draw, what the sessions draw, and what is in flight, in kW."""

from __future__ import annotations

from math import inf

import pytest

from grid.events import Counts
from grid.messages import DEFAULT_POWER_KW
from scheduling.load_tracker import LoadTracker
from scheduling.readings import Reading
from scheduling.substation_state import SubstationState
from tests.scheduling.trackers import RUN, A, page, sync_baseline, synced, tracker_of, utilisation

USUAL = DEFAULT_POWER_KW


def powered(power_kw: float = 0, background_kw: float = 0) -> tuple[LoadTracker, SubstationState]:
    """Return a load tracker with substation a, which reports its power and a rating of 400 kW."""
    tracker = tracker_of()
    counts = Counts(0, 0, 0, 0, RUN, power_kw)
    reading = Reading(0, 50, power_kw, 400, background_kw, counts)
    return tracker, sync_baseline(tracker, reading)


def test_power_is_background_plus_sessions_plus_in_flight() -> None:
    """All three add up, and their share of the rating is what may weigh more than the load."""
    tracker, state = powered(power_kw=30, background_kw=100)
    tracker.dispatch(A, 1, 150)
    tracker.dispatch(A, 1)
    assert state.power_kw == pytest.approx(280 + USUAL)
    assert utilisation(tracker) == pytest.approx((280 + USUAL) / 400)
    assert utilisation(tracker) > state.load / state.places


def test_utilisation_goes_by_connectors_where_power_suffices() -> None:
    """The larger of the two shares is the utilisation."""
    tracker, state = powered()
    for _ in range(10):
        tracker.dispatch(A, 1, 1)
    assert state.power_kw == 10
    assert utilisation(tracker) == 10 / 50


def test_power_follows_the_newest_of_event_and_page() -> None:
    """An event or a page, whichever is newer: as with the load."""
    tracker, state = powered()
    tracker.report(A, Counts(2, 2, 0, 0, RUN, 44))
    assert state.power_kw == 44
    tracker.read(A, page(1, 1, 0, power_kw=22), 1)  # it was asked for before
    assert state.power_kw == 44
    tracker.read(A, page(2, 3, 1, power_kw=50), 2)
    assert state.power_kw == 50
    tracker.report(A, Counts(1, 3, 2, 0, RUN, 25))
    assert state.power_kw == 25


def test_in_flight_power_leaves_in_dispatch_order() -> None:
    """A session that begins takes the power of the first of them."""
    tracker, state = powered()
    for power_kw in (1, 20, 300):
        tracker.dispatch(A, 1, power_kw)
    tracker.report(A, Counts(1, 1, 0, 0, RUN, 1))
    assert state.power_kw == 1 + 20 + 300
    tracker.report(A, Counts(0, 2, 2, 0, RUN, 0))
    assert state.power_kw == 300
    tracker.read(A, page(1, 3, 2, power_kw=300), 2)
    assert state.power_kw == 300
    assert not state.in_flight_kw


def test_in_flight_power_of_a_refused_job_is_dropped() -> None:
    """It is the one that was sent last."""
    tracker, state = powered()
    tracker.dispatch(A, 1, 20)
    tracker.dispatch(A, 1, 300)
    tracker.undo(A)
    assert state.power_kw == 20
    tracker.undo(A)
    tracker.undo(A)
    assert state.power_kw == 0


def test_in_flight_jobs_of_unknown_power_count_as_the_default() -> None:
    """Whoever starts anew knows how many wait in the queue, but not what they will draw."""
    tracker = tracker_of()
    state = sync_baseline(tracker, page(0, power_kw=0), ready=3)
    assert state.power_kw == pytest.approx(3 * USUAL)
    tracker.dispatch(A, 1, 150)
    assert state.power_kw == pytest.approx(3 * USUAL + 150)
    tracker.report(A, Counts(2, 2, 0, 0, RUN, 40))
    assert state.power_kw == pytest.approx(40 + USUAL + 150), "the unknown ones came first"


def test_in_flight_power_is_reset_when_a_substation_restarts() -> None:
    """Its jobs went back to the queue, with others that were known or not: all count as usual."""
    tracker, state = powered()
    tracker.dispatch(A, 1, 150)
    tracker.read(A, page(0, run=RUN + 1, power_kw=0), 2)
    assert state.power_kw == 0
    sync_baseline(tracker, page(0, run=RUN + 1, power_kw=0), 3, ready=1)
    assert state.power_kw == USUAL


def test_in_flight_powers_are_kept_without_a_baseline() -> None:
    """What has arrived meanwhile may be a job that nobody had counted."""
    tracker = tracker_of()
    tracker.read(A, page(0, power_kw=0), 0)
    state = tracker.substations[A]
    tracker.dispatch(A, 0, 150)  # sent again
    tracker.report(A, Counts(1, 1, 0, 0, RUN, 22))  # another, of an earlier dispatcher
    assert state.power_kw == 22 + 150
    sync_baseline(tracker, page(1, 1, 0, power_kw=22), 1, ready=1)
    assert state.power_kw == 22 + 150


def test_session_of_unknown_power_counts_as_the_default() -> None:
    """An unknown power does not count as 0; the load alone shows that something charges."""
    tracker, state = synced(load=3, accepted=3)
    assert state.power_kw == pytest.approx(3 * USUAL)
    tracker.dispatch(A, 1, 150)
    tracker.report(A, Counts(4, 4, 0, 0, RUN))
    assert state.power_kw == pytest.approx(4 * USUAL)


def test_session_known_only_from_an_event_counts_as_the_default() -> None:
    """Where the page tells the power and events do not, a session since the page counts too."""
    tracker, state = powered(power_kw=0)
    tracker.dispatch(A, 1, 22)
    tracker.report(A, Counts(1, 1, 0, 0, RUN))
    assert state.power_kw == USUAL
    tracker.read(A, page(1, 1, 0, power_kw=22), 1)
    assert state.power_kw == 22


def test_power_without_counters_is_page_plus_jobs_sent_since() -> None:
    """A substation that exports its load and power alone works; each job counts once."""
    tracker = tracker_of()
    state = tracker.substations[A]
    tracker.read(A, Reading(1, power_kw=50), 1)
    tracker.dispatch(A, 1.2, 22)
    tracker.dispatch(A, 1.6, 11)
    assert state.power_kw == 83
    tracker.read(A, Reading(2, power_kw=72), 1.5)
    assert state.power_kw == 83
    tracker.queued(A, ready=3, consumers=1)
    assert state.power_kw == pytest.approx(83 + 2 * USUAL)


@pytest.mark.parametrize(("rated", "share"), [(None, 0.0), (0.0, inf), (100.0, 0.5)])
def test_power_share_needs_a_known_rating(rated: float | None, share: float) -> None:
    """Where it is not known power does not weigh; where it is nothing, nothing fits."""
    tracker = tracker_of()
    tracker.read(A, Reading(0, 50, 50, rated), 0)
    state = tracker.substations[A]
    assert state.rated_power_kw == rated
    assert utilisation(tracker) == share
