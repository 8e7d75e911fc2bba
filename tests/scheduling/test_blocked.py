"""What keeps jobs from a substation whatever its page says: operators, its queue, ejection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from grid.controls import Availability, Control
from grid.events import Counts
from scheduling.health import FREE_FAILURES
from scheduling.load_tracker import DRAINED, NO_CONSUMER, LoadTracker
from scheduling.readings import Reading
from tests.scheduling.trackers import RUN, A, page, sync_baseline, synced, tracker_of, utilisation

DRAINING = Control(A, Availability.DRAINING, version=1)
PLAIN = Reading(0, 50)  # without counters: such a substation can be chosen at once


def fail_and_return(tracker: LoadTracker, name: str, now: float) -> None:
    """Have a substation's queue refuse a job, and its page be read again."""
    tracker.refuse(name, "its queue does not take jobs", now)
    tracker.read(name, PLAIN, now)


def test_substation_whose_queue_refuses_is_ineligible_until_the_next_page() -> None:
    """The reason is shown; the page is sound all the same, and the next one ends it."""
    tracker, state = synced()
    tracker.refuse(A, "its queue does not take jobs: nacked", 0.5)
    assert tracker.ineligible_reason(state, 0.5) == "its queue does not take jobs: nacked"
    assert tracker.readable(0.5) == {A: True}
    tracker.read(A, page(0), 1)
    assert tracker.ineligible_reason(state, 1) is None


@pytest.mark.parametrize(("consumers", "why"), [(0, NO_CONSUMER), (1, None), (7, None)])
def test_substation_without_consumer_is_ineligible(consumers: int, why: str | None) -> None:
    """A page may be there though nobody takes the jobs."""
    tracker, state = synced()
    assert tracker.ineligible_reason(state, 0) is None, "whether anybody does is not known yet"
    tracker.queued(A, 0, consumers)
    assert tracker.ineligible_reason(state, 0) == why
    tracker.read(A, page(0), 1)
    assert tracker.ineligible_reason(state, 1) == why, "a page says nothing of its queue"


def test_drained_substation_is_ineligible_until_available_again() -> None:
    """While it is drained nothing is sent; what it has still counts."""
    tracker, state = synced(load=2, accepted=2)
    tracker.control(A, DRAINING)
    assert (tracker.ineligible_reason(state, 0), state.load) == (DRAINED, 2)
    tracker.control(A, Control(A, version=2))
    assert tracker.ineligible_reason(state, 0) is None


@pytest.mark.parametrize(("limit", "places"), [(None, 50), (8, 8), (80, 50)])
def test_operator_limit_lowers_the_capacity(limit: int | None, places: float) -> None:
    """There are as many places as connectors, or fewer; the utilisation goes by places."""
    tracker, state = synced(load=4, accepted=4)
    tracker.control(A, Control(A, limit=limit, version=1))
    assert (state.connectors, state.places) == (50, places)
    assert utilisation(tracker) == 4 / places
    tracker.control(A, Control(A, version=2))
    assert state.places == 50


def test_control_applies_to_a_substation_that_joins_later() -> None:
    """The target file and what operators set are told in any order."""
    tracker = tracker_of("b")
    tracker.control(A, Control(A, Availability.DRAINING, 8, 1))
    tracker.keep({"b": None, A: None})
    assert (tracker.substations[A].drained, tracker.substations[A].places) == (True, 8)
    assert (tracker.substations["b"].drained, tracker.substations["b"].limit) == (False, None)
    tracker.keep({"b": None})
    tracker.keep({"b": None, A: None})
    state = sync_baseline(tracker, page(0))
    assert (tracker.ineligible_reason(state, 0), state.limit) == (DRAINED, 8)
    tracker.keep({"b": None})
    tracker.control(A, Control(A, version=2))
    tracker.keep({"b": None, A: None})
    assert (tracker.substations[A].drained, tracker.substations[A].limit) == (False, None)


def test_substation_that_fails_repeatedly_is_ejected() -> None:
    """Its page is sound and its queue takes jobs, but not for long."""
    tracker = tracker_of(A, "b")
    state = tracker.substations[A]
    for second in range(FREE_FAILURES + 1):
        assert not state.health.ejected(second)
        tracker.read("b", PLAIN, second)
        fail_and_return(tracker, A, second + 0.5)
    assert tracker.ineligible_reason(state, 4) == "ejected for another 4 s after repeated failures"
    assert tracker.readable(4) == {A: True, "b": True}
    tracker.read(A, PLAIN, 9)
    assert tracker.ineligible_reason(state, 9) is None


@pytest.mark.parametrize(
    ("fail", "drained", "ejected"),
    [
        (["a"], [], ["a"]),
        (["a", "b"], [], ["a", "b"]),  # c and d have half of all connectors
        (["a", "b", "c"], [], ["a", "b"]),
        (["a", "b", "c", "d"], [], ["a", "b"]),
        (["a", "b"], ["d"], ["a"]),  # c alone has a third of what is in operation
        (["a"], ["b", "c", "d"], []),
    ],
)
def test_ejection_spares_substations_where_all_fail(
    fail: list[str], drained: list[str], ejected: list[str]
) -> None:
    """One is ejected only while the others that can be chosen have half of all connectors."""
    tracker = tracker_of("a", "b", "c", "d")
    for name in tracker.substations:
        tracker.read(name, PLAIN, 0)
    for name in drained:
        tracker.control(name, Control(name, Availability.DRAINING, version=1))
    for name in fail:
        for _ in range(FREE_FAILURES + 1):
            fail_and_return(tracker, name, 0)
    assert [name for name, each in tracker.substations.items() if each.health.ejected(0)] == ejected


def test_ejection_ends_when_the_other_substations_fail() -> None:
    """It is needed then; it goes through slow start, and failing once more counts as before."""
    tracker = tracker_of(A, "b")
    tracker.read("b", PLAIN, 0)
    for _ in range(FREE_FAILURES + 1):
        fail_and_return(tracker, A, 0)
    state = tracker.substations[A]
    assert state.health.ejected(1)
    tracker.refuse("b", "its queue does not take jobs", 1)
    tracker.read(A, PLAIN, 1)
    assert tracker.ineligible_reason(state, 1) is None
    assert state.health.slow_start_limit(50, 1, 10) == 1
    tracker.read("b", PLAIN, 2)
    fail_and_return(tracker, A, 2)
    assert state.health.ejected_until == 12


def test_restart_counts_as_a_failure_and_begins_slow_start() -> None:
    """Counters of another run show a restart that no page was missed for."""
    tracker, state = synced(load=5, accepted=5)
    tracker.read(A, page(2, 2, 0, run=1001), 1)
    assert state.health.failures == 1
    assert state.health.slow_start_limit(50, 1, 10) == 3


def test_missed_page_is_no_failure_before_the_gauge_is_stale() -> None:
    """Only one that could not be read for as long as a gauge is trusted has failed."""
    tracker, state = synced()
    tracker.fail(A, "late", 1)
    tracker.fail(A, "late", 2.9)
    assert state.health.failed_at is None
    tracker.read(A, page(0), 3)
    tracker.fail(A, "late", 4)
    tracker.fail(A, "late", 6)
    tracker.fail(A, "late", 60)
    tracker.read(A, page(0, run=1001), 61)
    assert state.health.failures == 1, "it failed, stayed away and was another: all of that is one"


def test_load_tracker_knows_another_eligible_substation() -> None:
    """Jobs are reclaimed from a substation only if another can charge them."""
    tracker = tracker_of(A, "b")
    sync_baseline(tracker, page(0))
    assert tracker.another("b", 0)
    assert not tracker.another(A, 0), "of b nothing is known"
    assert not tracker.another("b", 3), "and of a no more"


def test_load_tracker_reports_each_changed_substation_once() -> None:
    """What follows from a state is computed again only if it has changed."""
    tracker = tracker_of(A, "b")
    a, b = tracker.substations[A], tracker.substations["b"]
    assert tracker.take_changed() == [a, b]
    assert tracker.take_changed() == []
    steps: list[Callable[[], object]] = [
        lambda: tracker.read(A, page(0), 0),
        lambda: tracker.report(A, Counts(1, 1, 0, 0, RUN)),
        lambda: tracker.fail(A, "late", 0),
        lambda: tracker.refuse(A, "full", 0),
        lambda: tracker.control(A, DRAINING),
        lambda: tracker.dispatch(A, 0),
        lambda: tracker.undo(A),
        lambda: tracker.queued(A, 0, 1),
        lambda: tracker.invalidate_baseline(A),
        lambda: tracker.touch(a),
    ]
    for step in steps:
        step()
        assert tracker.take_changed() == [a]
    tracker.keep({A: None})
    assert tracker.take_changed() == [b, a], "one that is gone has changed too"
    tracker.keep({})
    assert tracker.take_changed() == [a]
