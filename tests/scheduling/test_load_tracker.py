from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.events import Counts
from scheduling.load_tracker import NO_BASELINE
from scheduling.observations import DOUBT_SECONDS
from scheduling.readings import Reading
from scheduling.substation_state import NO_READING
from tests.scheduling.trackers import RUN, A, page, sync_baseline, synced, tracker_of


def test_substation_never_read_is_ineligible() -> None:
    """Until a page was read, nothing may be sent there, and the reason says so."""
    tracker = tracker_of()
    assert tracker.ineligible_reason(tracker.substations[A], 0) == NO_READING
    assert tracker.substations[A].age(0) is None


def test_substation_without_queue_depth_is_ineligible() -> None:
    """What waits in the queue must be known before anything is sent."""
    tracker = tracker_of()
    tracker.read(A, page(0), 0)
    assert tracker.ineligible_reason(tracker.substations[A], 0) == NO_BASELINE
    assert tracker.unsynced() == [A]


@pytest.mark.parametrize(("ready", "load"), [(0, 3), (4, 7)])
def test_baseline_is_set_from_the_queue_depth(ready: float, load: float) -> None:
    """Sessions and what waits in the queue are the load, whoever sent it."""
    tracker, state = synced(load=3, accepted=10, ready=ready)
    assert (state.load, state.outstanding) == (load, ready)
    assert tracker.ineligible_reason(state, 0) is None
    assert tracker.unsynced() == []


@pytest.mark.parametrize(
    ("answer", "accepted", "asked_at", "why"),
    [
        (None, 5, 1, "there was no answer"),
        (4, 6, 1, "one was taken meanwhile: was it among the four?"),
        (4, 5, 0.4, "the page was asked for before the depth was known"),
    ],
)
def test_baseline_is_not_set_from_an_ambiguous_queue_depth(
    answer: float | None, accepted: float, asked_at: float, why: str
) -> None:
    """The baseline is not set on a guess."""
    tracker = tracker_of()
    tracker.read(A, page(5, 5), 0)
    tracker.ask_depth(A)
    tracker.depth(A, answer, 0.5)
    tracker.read(A, page(5, accepted), asked_at)
    state = tracker.substations[A]
    assert not state.synced, why
    if asked_at > 0.5:
        assert tracker.unsynced() == [A]
    tracker.read(A, page(5, accepted), 2)  # the next page
    tracker.ask_depth(A)
    tracker.depth(A, 4, 2.5)
    tracker.read(A, page(5, accepted), 3)
    assert state.synced


def test_load_counts_each_job_once_from_dispatch_to_completion() -> None:
    """A job is outstanding, then a session, then gone, whichever report of it comes first."""
    tracker, state = synced()
    tracker.dispatch(A, 1)
    tracker.dispatch(A, 1)
    assert (state.load, state.outstanding) == (2, 2)
    tracker.report(A, Counts(1, 1, 0, 0, RUN))
    assert (state.load, state.outstanding) == (2, 1)
    tracker.read(A, page(2, 2, 0), 1.5)
    assert (state.load, state.outstanding) == (2, 0)
    tracker.report(A, Counts(1, 2, 1, 0, RUN))
    tracker.report(A, Counts(1, 2, 1, 0, RUN))  # read twice
    tracker.report(A, Counts(1, 1, 0, 0, RUN))  # out of order
    assert state.load == 1


def test_page_older_than_an_event_is_ignored() -> None:
    """A page that was under way while an event came does not bring back what is over."""
    tracker, state = synced()
    tracker.dispatch(A, 1)
    tracker.report(A, Counts(0, 1, 1, 0, RUN))
    tracker.read(A, page(1, 1, 0), 1)
    assert state.load == 0


def test_load_includes_sessions_that_were_not_dispatched() -> None:
    """Sessions that nobody dispatched are in the gauge, and so in the load."""
    tracker, state = synced()
    tracker.read(A, page(3, 3, 0), 1)
    assert state.load == 3
    tracker.dispatch(A, 1)
    assert state.load == 4, "a job in flight is not hidden behind those of others"


def test_load_counts_the_next_job_after_a_second_copy() -> None:
    """A job that a broken link sent twice is taken twice: the next one counts all the same."""
    tracker, state = synced()
    tracker.dispatch(A, 1)
    tracker.read(A, Reading(0, 50, counts=Counts(0, 1, 1, 1, RUN)), 2)
    assert state.load == 0
    tracker.dispatch(A, 2)
    assert state.load == 1


def test_load_drops_a_second_copy_counted_in_the_baseline() -> None:
    """A copy is in the queue's depth like any job, and gone from the load once it was dropped."""
    tracker, state = synced(load=0, accepted=7, ready=2)
    tracker.read(A, Reading(0, 50, counts=Counts(0, 8, 8, 1, RUN)), 1)
    assert state.load == 0


def test_load_drops_a_job_that_the_queue_refused() -> None:
    """A job that a queue refused is no longer outstanding there."""
    tracker, state = synced()
    tracker.dispatch(A, 1)
    tracker.undo(A)
    assert state.load == 0


def test_restarted_substation_gets_a_new_baseline() -> None:
    """Counters that begin anew are neither a negative load nor a load that is long over."""
    tracker, state = synced(load=0, accepted=500)
    tracker.read(A, page(1, 1, 0, run=RUN + 60), 1)
    assert state.load == 1
    assert tracker.ineligible_reason(state, 1) == NO_BASELINE
    tracker.report(A, Counts(9, 509, 500, 0, RUN))  # a late report of the run that is over
    assert state.load == 1
    tracker.ask_depth(A)
    tracker.depth(A, 2, 1)
    tracker.read(A, page(1, 1, 0, run=RUN + 60), 1)
    assert (state.load, tracker.ineligible_reason(state, 1)) == (3, None)


def test_new_run_is_known_from_a_page_only() -> None:
    """Which of two runs is the newer only a page can tell."""
    tracker, state = synced(load=2, accepted=2)
    tracker.report(A, Counts(0, 0, 0, 0, RUN + 60))
    assert state.load == 2
    assert state.synced


def test_load_without_counters_is_gauge_plus_jobs_sent_since() -> None:
    """A substation that exports only its load works; each job counts once."""
    tracker = tracker_of()
    tracker.read(A, Reading(2), 1)
    state = tracker.substations[A]
    assert tracker.ineligible_reason(state, 1) is None
    tracker.dispatch(A, 1.2)
    tracker.dispatch(A, 1.6)
    assert (state.load, state.outstanding) == (4, 2)
    tracker.read(A, Reading(3), 1.5)  # it shows the first; the second left after it was asked for
    assert (state.load, state.outstanding) == (4, 1)
    tracker.undo(A)
    assert state.load == 3
    tracker.report(A, Counts(9, 9, 9, 9, RUN))
    assert state.load == 3, "an event's counters mean nothing without a page's"


def test_load_tracker_notices_counters_that_come_or_go() -> None:
    """A substation that is exchanged for a simpler one, or back, is read on its new terms."""
    tracker, state = synced(load=2, accepted=9)
    tracker.read(A, Reading(1), 1)
    assert (state.load, tracker.ineligible_reason(state, 1)) == (1, None)
    tracker.read(A, page(4, 4), 2)
    assert (state.load, tracker.ineligible_reason(state, 2)) == (4, NO_BASELINE)


def test_load_tracker_keeps_exactly_the_substations_of_the_target_file() -> None:
    """One that is gone is forgotten, one that stays keeps its state, one that is back is new."""
    tracker, state = synced(load=2, accepted=2)
    tracker.keep({A: None, "b": 8})
    assert tracker.substations[A] is state
    assert tracker.substations["b"].connectors == 8
    tracker.keep({"b": 8})
    assert list(tracker.substations) == ["b"]
    tracker.keep({A: None, "b": 8})
    assert tracker.ineligible_reason(tracker.substations[A], 0) == NO_READING


def test_load_tracker_ignores_news_of_a_removed_substation() -> None:
    """Late words of a substation that the file no longer names do no harm."""
    tracker = tracker_of("b")
    tracker.read(A, page(1), 0)
    tracker.report(A, Counts(1, 1, 0, 0, RUN))
    tracker.fail(A, "gone", 0)
    tracker.refuse(A, "gone", 0)
    tracker.queued(A, 3, 0)
    tracker.invalidate_baseline(A)
    tracker.ask_depth(A)
    tracker.depth(A, 3, 0)
    tracker.undo(A)
    assert list(tracker.substations) == ["b"]
    assert tracker.substations["b"].load == 0


def test_baseline_is_not_set_from_a_depth_older_than_a_dispatch() -> None:
    """A job may be sent again without a baseline: the depth may not have counted it."""
    tracker = tracker_of()
    tracker.read(A, page(0), 0)
    tracker.ask_depth(A)
    tracker.dispatch(A, 0.5)
    tracker.depth(A, 0, 1)
    tracker.read(A, page(0), 2)
    state = tracker.substations[A]
    assert (state.synced, state.load) == (False, 1)
    assert tracker.unsynced() == [A]


def test_reclaimed_jobs_invalidate_the_baseline_of_their_substation() -> None:
    """After a job is reclaimed from one substation, only its queue's depth is asked for."""
    tracker = tracker_of(A, "b", "c")
    for name in (A, "b"):
        tracker.read(name, page(0), 0)
        tracker.ask_depth(name)
        tracker.depth(name, 2, 0)
        tracker.read(name, page(0), 0)
    tracker.read("c", Reading(0), 0)
    tracker.invalidate_baseline(A)
    assert tracker.unsynced() == [A]
    assert tracker.ineligible_reason(tracker.substations[A], 0) == NO_BASELINE
    assert tracker.substations[A].load == 2, "until then, what was known holds"
    tracker.invalidate_baseline("gone")
    tracker.invalidate_baseline()
    assert tracker.unsynced() == [A, "b"], "one without counters needs no baseline"
    assert tracker.ineligible_reason(tracker.substations["c"], 0) is None


def test_baseline_is_not_set_from_a_depth_older_than_a_reclaim() -> None:
    """An answer that may have counted what is gone by now proves nothing."""
    tracker, state = synced(ready=3)
    tracker.invalidate_baseline(A)
    tracker.ask_depth(A)
    tracker.invalidate_baseline(A)
    tracker.depth(A, 3, 0)
    tracker.read(A, page(0), 1)
    assert not state.synced
    assert tracker.unsynced() == [A]


def test_baseline_is_invalidated_when_jobs_in_flight_do_not_arrive() -> None:
    """Somebody may have taken them out of the queue: only its depth can tell."""
    tracker, state = synced()
    tracker.dispatch(A, 1)
    tracker.read(A, page(0), 1)
    tracker.read(A, page(0), 0.9 + DOUBT_SECONDS)
    assert state.synced
    tracker.read(A, page(0), 1 + DOUBT_SECONDS)
    assert (state.synced, state.load) == (False, 1)
    tracker.ask_depth(A)
    tracker.depth(A, 0, 7)
    tracker.read(A, page(0), 7)
    assert (state.synced, state.load) == (True, 0)


def test_load_without_counters_includes_the_queue_depth() -> None:
    """Jobs that were sent before the page and have not begun are in the queue alone."""
    tracker = tracker_of()
    tracker.read(A, Reading(4), 0)
    tracker.queued(A, ready=3, consumers=1)
    state = tracker.substations[A]
    assert (state.load, state.outstanding) == (7, 3)
    tracker.dispatch(A, 1)
    assert state.load == 7, "it may be among the three"
    tracker.queued(A, ready=0, consumers=1)
    assert state.load == 5, "or not"


def test_load_tracker_memory_is_bounded_without_pages() -> None:
    """With every page away for hours, events tell that jobs arrive: memory does not grow."""
    tracker, state = synced()
    for number in range(1, 101):
        tracker.dispatch(A, number)
        tracker.dispatch(A, number)
        tracker.report(A, Counts(1, 2 * number - 1, 2 * number - 2, 0, RUN))
        tracker.report(A, Counts(1, 2 * number, 2 * number - 1, 0, RUN))
    assert len(state.sent_at) == len(state.in_flight_kw) == 0
    tracker.dispatch(A, 101)
    tracker.read(A, Reading(1), 100.5)
    assert state.load == 2, "a page without counters may be older than what was sent"


def test_load_with_counters_excludes_the_queue_depth() -> None:
    """What waits is dispatched and not taken: it must not count twice."""
    tracker, state = synced(load=1, accepted=1, ready=2)
    tracker.queued(A, ready=2, consumers=1)
    assert state.load == 3


@given(st.lists(st.sampled_from(["dispatch", "undo", "read", "lighter", "event"]), max_size=40))
def test_load_is_never_negative(steps: list[str]) -> None:
    """Whatever is reported, in whatever order, no substation's load is below zero."""
    tracker, state = synced()
    taken_from_queue = 0
    for now, step in enumerate(steps):
        match step:
            case "dispatch":
                tracker.dispatch(A, now)
            case "undo":
                tracker.undo(A)
            case "read":
                taken_from_queue += 1
                tracker.read(A, page(1, taken_from_queue, taken_from_queue - 1), now)
            case "lighter":
                tracker.read(A, Reading(0), now)
            case _:
                taken_from_queue += 3
                tracker.report(A, Counts(0, taken_from_queue, taken_from_queue, 0, RUN))
        assert state.load >= 0
        assert state.outstanding >= 0


def test_load_includes_deliveries_that_have_not_begun() -> None:
    """It is neither in the queue nor accepted, and a baseline without it would be one short."""
    counts = Counts(3, 10, 7, 0, RUN, waiting=2)
    tracker = tracker_of()
    tracker.read(A, Reading(3, 3, counts=counts), 0)
    tracker.ask_depth(A)
    tracker.depth(A, 1, 0)
    tracker.read(A, Reading(3, 3, counts=counts), 0)
    state = tracker.substations[A]
    assert (state.synced, state.load, state.outstanding) == (True, 6, 3)
    for now in range(1, 20):  # the one in the queue may be gone: it is looked for again and again
        tracker.read(A, Reading(3, 3, counts=counts), now)
    assert not state.synced
    tracker.ask_depth(A)
    tracker.depth(A, 0, 20)
    for now in range(20, 60):
        tracker.read(A, Reading(3, 3, counts=counts), now)
    assert (state.synced, state.load) == (True, 5), "what it says it has is in no doubt"


def test_load_tracker_query_for_settling_does_not_end_it() -> None:
    """The health page asks; only a pass over the wait queue ends it, for whoever comes later."""
    tracker = tracker_of()
    tracker.settle(0)
    assert tracker.settling(0.5)
    sync_baseline(tracker, page(0, 0, 0), 0.5)
    assert not tracker.settling(0.6)
    tracker.keep({A: None, "b": None})
    assert tracker.settling(0.7)
    tracker.end_settling()
    assert not tracker.settling(0.7)
