from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decision.account import NO_READING
from dispatcher.decision.hearing import DOUBT_SECONDS
from dispatcher.decision.ledger import NO_ANCHOR
from dispatcher.readings import Reading
from grid.events import Counts
from tests.dispatcher.decision.ledgers import RUN, A, anchored, ledger_of, page


def test_a_substation_never_read_is_not_idle() -> None:
    """Until a page was read, nothing may be sent there, and the reason says so."""
    ledger = ledger_of()
    assert ledger.ineligible(ledger.accounts[A], 0) == NO_READING
    assert ledger.accounts[A].age(0) is None


def test_a_page_alone_is_not_enough() -> None:
    """What waits in the queue must be known before anything is sent."""
    ledger = ledger_of()
    ledger.read(A, page(0), 0)
    assert ledger.ineligible(ledger.accounts[A], 0) == NO_ANCHOR
    assert ledger.unanchored() == [A]


@pytest.mark.parametrize(("ready", "load"), [(0, 3), (4, 7)])
def test_the_scale_is_set_by_the_queue_s_depth(ready: float, load: float) -> None:
    """Sessions and what waits in the queue are the load, whoever sent it."""
    ledger, account = anchored(load=3, accepted=10, ready=ready)
    assert (account.load, account.outstanding) == (load, ready)
    assert ledger.ineligible(account, 0) is None
    assert ledger.unanchored() == []


@pytest.mark.parametrize(
    ("answer", "accepted", "asked_at", "why"),
    [
        (None, 5, 1, "there was no answer"),
        (4, 6, 1, "one was taken meanwhile: was it among the four?"),
        (4, 5, 0.4, "the page was asked for before the depth was known"),
    ],
)
def test_a_depth_that_proves_nothing_is_asked_for_again(
    answer: float | None, accepted: float, asked_at: float, why: str
) -> None:
    """The scale is not set on a guess."""
    ledger = ledger_of()
    ledger.read(A, page(5, 5), 0)
    ledger.ask_depth(A)
    ledger.depth(A, answer, 0.5)
    ledger.read(A, page(5, accepted), asked_at)
    account = ledger.accounts[A]
    assert not account.anchored, why
    if asked_at > 0.5:
        assert ledger.unanchored() == [A]
    ledger.read(A, page(5, accepted), 2)  # the next page
    ledger.ask_depth(A)
    ledger.depth(A, 4, 2.5)
    ledger.read(A, page(5, accepted), 3)
    assert account.anchored


def test_each_job_counts_once_from_dispatch_to_completion() -> None:
    """A job is outstanding, then a session, then gone, whichever word of it comes first."""
    ledger, account = anchored()
    ledger.dispatch(A, 1)
    ledger.dispatch(A, 1)
    assert (account.load, account.outstanding) == (2, 2)
    ledger.report(A, Counts(1, 1, 0, 0, RUN))
    assert (account.load, account.outstanding) == (2, 1)
    ledger.read(A, page(2, 2, 0), 1.5)
    assert (account.load, account.outstanding) == (2, 0)
    ledger.report(A, Counts(1, 2, 1, 0, RUN))
    ledger.report(A, Counts(1, 2, 1, 0, RUN))  # read twice
    ledger.report(A, Counts(1, 1, 0, 0, RUN))  # out of order
    assert account.load == 1


def test_a_page_older_than_an_event_changes_nothing() -> None:
    """A page that was under way while an event came does not bring back what is over."""
    ledger, account = anchored()
    ledger.dispatch(A, 1)
    ledger.report(A, Counts(0, 1, 1, 0, RUN))
    ledger.read(A, page(1, 1, 0), 1)
    assert account.load == 0


def test_background_sessions_count() -> None:
    """Sessions that nobody dispatched are in the gauge, and so in the load."""
    ledger, account = anchored()
    ledger.read(A, page(3, 3, 0), 1)
    assert account.load == 3
    ledger.dispatch(A, 1)
    assert account.load == 4, "a job on its way is not hidden behind those of others"


def test_a_second_copy_hides_no_job() -> None:
    """A job that a broken link sent twice is taken twice: the next one counts all the same."""
    ledger, account = anchored()
    ledger.dispatch(A, 1)
    ledger.read(A, Reading(0, 50, counts=Counts(0, 1, 1, 1, RUN)), 2)
    assert account.load == 0
    ledger.dispatch(A, 2)
    assert account.load == 1


def test_a_second_copy_that_waited_when_the_scale_was_set_is_taken_off() -> None:
    """A copy is in the queue's depth like any job, and gone from the load once it was dropped."""
    ledger, account = anchored(load=0, accepted=7, ready=2)
    ledger.read(A, Reading(0, 50, counts=Counts(0, 8, 8, 1, RUN)), 1)
    assert account.load == 0


def test_what_did_not_arrive_is_taken_off() -> None:
    """A job that a queue refused is no longer outstanding there."""
    ledger, account = anchored()
    ledger.dispatch(A, 1)
    ledger.undo(A)
    assert account.load == 0


def test_a_restarted_substation_starts_on_a_new_scale() -> None:
    """Counters that begin anew are neither a negative load nor a load that is long over."""
    ledger, account = anchored(load=0, accepted=500)
    ledger.read(A, page(1, 1, 0, run=RUN + 60), 1)
    assert account.load == 1
    assert ledger.ineligible(account, 1) == NO_ANCHOR
    ledger.report(A, Counts(9, 509, 500, 0, RUN))  # a late word of the run that is over
    assert account.load == 1
    ledger.ask_depth(A)
    ledger.depth(A, 2, 1)
    ledger.read(A, page(1, 1, 0, run=RUN + 60), 1)
    assert (account.load, ledger.ineligible(account, 1)) == (3, None)


def test_an_event_alone_does_not_make_a_new_run_known() -> None:
    """Which of two runs is the newer only a page can tell."""
    ledger, account = anchored(load=2, accepted=2)
    ledger.report(A, Counts(0, 0, 0, 0, RUN + 60))
    assert account.load == 2
    assert account.anchored


def test_without_counters_the_gauge_and_what_was_sent_since_it_was_asked_for() -> None:
    """A substation that exports only its load works; each job counts once."""
    ledger = ledger_of()
    ledger.read(A, Reading(2), 1)
    account = ledger.accounts[A]
    assert ledger.ineligible(account, 1) is None
    ledger.dispatch(A, 1.2)
    ledger.dispatch(A, 1.6)
    assert (account.load, account.outstanding) == (4, 2)
    ledger.read(A, Reading(3), 1.5)  # it shows the first; the second left after it was asked for
    assert (account.load, account.outstanding) == (4, 1)
    ledger.undo(A)
    assert account.load == 3
    ledger.report(A, Counts(9, 9, 9, 9, RUN))
    assert account.load == 3, "an event's counters mean nothing without a page's"


def test_counters_that_come_or_go_are_noticed() -> None:
    """A substation that is exchanged for a simpler one, or back, is read on its new terms."""
    ledger, account = anchored(load=2, accepted=9)
    ledger.read(A, Reading(1), 1)
    assert (account.load, ledger.ineligible(account, 1)) == (1, None)
    ledger.read(A, page(4, 4), 2)
    assert (account.load, ledger.ineligible(account, 2)) == (4, NO_ANCHOR)


def test_exactly_the_substations_of_the_file_are_kept() -> None:
    """One that is gone is forgotten, one that stays keeps its account, one that is back is new."""
    ledger, account = anchored(load=2, accepted=2)
    ledger.keep({A: None, "b": 8})
    assert ledger.accounts[A] is account
    assert ledger.accounts["b"].connectors == 8
    ledger.keep({"b": 8})
    assert list(ledger.accounts) == ["b"]
    ledger.keep({A: None, "b": 8})
    assert ledger.ineligible(ledger.accounts[A], 0) == NO_READING


def test_what_is_heard_of_a_substation_that_is_gone_is_nothing() -> None:
    """Late words of a substation that the file no longer names do no harm."""
    ledger = ledger_of("b")
    ledger.read(A, page(1), 0)
    ledger.report(A, Counts(1, 1, 0, 0, RUN))
    ledger.fail(A, "gone", 0)
    ledger.refuse(A, "gone", 0)
    ledger.queued(A, 3, 0)
    ledger.let_go(A)
    ledger.ask_depth(A)
    ledger.depth(A, 3, 0)
    ledger.undo(A)
    assert list(ledger.accounts) == ["b"]
    assert ledger.accounts["b"].load == 0


def test_a_depth_from_before_a_job_was_sent_sets_no_scale() -> None:
    """A job may be sent again where no scale is set: the depth may not have counted it."""
    ledger = ledger_of()
    ledger.read(A, page(0), 0)
    ledger.ask_depth(A)
    ledger.dispatch(A, 0.5)
    ledger.depth(A, 0, 1)
    ledger.read(A, page(0), 2)
    account = ledger.accounts[A]
    assert (account.anchored, account.load) == (False, 1)
    assert ledger.unanchored() == [A]


def test_what_others_took_away_or_put_there_sets_the_scale_anew() -> None:
    """A job taken back from one substation has its queue's depth asked for, and no other's."""
    ledger = ledger_of(A, "b", "c")
    for name in (A, "b"):
        ledger.read(name, page(0), 0)
        ledger.ask_depth(name)
        ledger.depth(name, 2, 0)
        ledger.read(name, page(0), 0)
    ledger.read("c", Reading(0), 0)
    ledger.let_go(A)
    assert ledger.unanchored() == [A]
    assert ledger.ineligible(ledger.accounts[A], 0) == NO_ANCHOR
    assert ledger.accounts[A].load == 2, "until then, what was known holds"
    ledger.let_go("gone")
    ledger.let_go()
    assert ledger.unanchored() == [A, "b"], "one without counters has no scale to set"
    assert ledger.ineligible(ledger.accounts["c"], 0) is None


def test_a_depth_that_was_asked_for_before_others_took_some_is_void() -> None:
    """An answer that may have counted what is gone by now proves nothing."""
    ledger, account = anchored(ready=3)
    ledger.let_go(A)
    ledger.ask_depth(A)
    ledger.let_go(A)
    ledger.depth(A, 3, 0)
    ledger.read(A, page(0), 1)
    assert not account.anchored
    assert ledger.unanchored() == [A]


def test_jobs_that_do_not_arrive_for_long_are_looked_for() -> None:
    """Somebody may have taken them out of the queue: only its depth can tell."""
    ledger, account = anchored()
    ledger.dispatch(A, 1)
    ledger.read(A, page(0), 1)
    ledger.read(A, page(0), 0.9 + DOUBT_SECONDS)
    assert account.anchored
    ledger.read(A, page(0), 1 + DOUBT_SECONDS)
    assert (account.anchored, account.load) == (False, 1)
    ledger.ask_depth(A)
    ledger.depth(A, 0, 7)
    ledger.read(A, page(0), 7)
    assert (account.anchored, account.load) == (True, 0)


def test_without_counters_what_waits_in_the_queue_counts() -> None:
    """Jobs that were sent before the page and have not begun are in the queue alone."""
    ledger = ledger_of()
    ledger.read(A, Reading(4), 0)
    ledger.queued(A, ready=3, consumers=1)
    account = ledger.accounts[A]
    assert (account.load, account.outstanding) == (7, 3)
    ledger.dispatch(A, 1)
    assert account.load == 7, "it may be among the three"
    ledger.queued(A, ready=0, consumers=1)
    assert account.load == 5, "or not"


def test_what_was_sent_is_not_kept_for_longer_than_it_is_on_its_way() -> None:
    """With every page away for hours, events tell that jobs arrive: memory does not grow."""
    ledger, account = anchored()
    for number in range(1, 101):
        ledger.dispatch(A, number)
        ledger.dispatch(A, number)
        ledger.report(A, Counts(1, 2 * number - 1, 2 * number - 2, 0, RUN))
        ledger.report(A, Counts(1, 2 * number, 2 * number - 1, 0, RUN))
    assert len(account.sent_at) == len(account.way) == 0
    ledger.dispatch(A, 101)
    ledger.read(A, Reading(1), 100.5)
    assert account.load == 2, "a page without counters may be older than what was sent"


def test_with_counters_the_queue_s_depth_adds_nothing() -> None:
    """What waits is dispatched and not taken: it must not count twice."""
    ledger, account = anchored(load=1, accepted=1, ready=2)
    ledger.queued(A, ready=2, consumers=1)
    assert account.load == 3


@given(st.lists(st.sampled_from(["dispatch", "undo", "read", "lighter", "event"]), max_size=40))
def test_a_load_is_never_negative(steps: list[str]) -> None:
    """Whatever is heard, in whatever order, no substation looks lighter than empty."""
    ledger, account = anchored()
    taken = 0
    for now, step in enumerate(steps):
        match step:
            case "dispatch":
                ledger.dispatch(A, now)
            case "undo":
                ledger.undo(A)
            case "read":
                taken += 1
                ledger.read(A, page(1, taken, taken - 1), now)
            case "lighter":
                ledger.read(A, Reading(0), now)
            case _:
                taken += 3
                ledger.report(A, Counts(0, taken, taken, 0, RUN))
        assert account.load >= 0
        assert account.outstanding >= 0


def test_what_a_substation_has_been_brought_and_not_begun_counts() -> None:
    """It is neither in the queue nor taken, and a scale without it would be one short."""
    counts = Counts(3, 10, 7, 0, RUN, waiting=2)
    ledger = ledger_of()
    ledger.read(A, Reading(3, 3, counts=counts), 0)
    ledger.ask_depth(A)
    ledger.depth(A, 1, 0)
    ledger.read(A, Reading(3, 3, counts=counts), 0)
    account = ledger.accounts[A]
    assert (account.anchored, account.load, account.outstanding) == (True, 6, 3)
    for now in range(1, 20):  # the one in the queue may be gone: it is looked for again and again
        ledger.read(A, Reading(3, 3, counts=counts), now)
    assert not account.anchored
    ledger.ask_depth(A)
    ledger.depth(A, 0, 20)
    for now in range(20, 60):
        ledger.read(A, Reading(3, 3, counts=counts), now)
    assert (account.anchored, account.load) == (True, 5), "what it says it has is in no doubt"
