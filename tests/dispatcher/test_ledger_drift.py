"""The ledger against a true substation, driven through any order of things that can happen."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dispatcher.decision.ledger import DOUBT_SECONDS, Ledger
from dispatcher.readings import Reading
from grid.events import Counts

A = "a"
CONNECTORS = 4
SELDOM = st.integers(0, 7).map(lambda number: number == 7)


class Truth:
    """A substation as it really is, with its queue, and the jobs on their way to that."""

    def __init__(self) -> None:
        self.sent = 0  # published, and not in the queue yet
        self.ready = 0  # jobs in the queue
        self.copies = 0  # second copies of jobs in the queue
        self.held = 0  # the broker keeps them for a consumer that is gone
        self.sessions = 0
        self.accepted = self.completed = self.duplicates = 0
        self.started_at = 1000.0

    @property
    def load(self) -> int:
        """Every job that was sent there and is not over."""
        return self.sent + self.ready + self.held + self.sessions

    @property
    def counts(self) -> Counts:
        """Give what the substation says of itself."""
        return Counts(
            self.sessions, self.accepted, self.completed, self.duplicates, self.started_at
        )

    def restart(self, *, noticed: bool) -> None:
        """Begin anew; the jobs go back to the queue as soon as the broker notices."""
        if noticed:
            self.ready += self.sessions
        else:
            self.held += self.sessions
        self.sessions = self.accepted = self.completed = self.duplicates = 0
        self.started_at += 1


class Drift(RuleBasedStateMachine):
    """Pages late, events lost, repeated or out of order, restarts, jobs refused or sent twice.

    ``hidden`` bounds what nobody could know of when the scale was set, or was sent a second time:
    it is seen at the latest when nothing is on its way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.truth = Truth()
        self.ledger = Ledger(stale_after=1e9, default_connectors=CONNECTORS)
        self.ledger.keep({A: None})
        self.events: list[Counts] = []
        self.page: tuple[Counts, float] | None = None
        self.asking: Callable[[], None] | None = None
        self.latest: Counts | None = None
        self.hidden = 0
        self.hidden_at_depth = 0
        self.gone = 0  # jobs taken out of the queue since its depth was asked for
        self.gone_at_depth = 0
        self.set_scale()

    @property
    def eligible(self) -> bool:
        """Tell whether the dispatcher may send a job there."""
        return self.ledger.ineligible(self.ledger.accounts[A], self.now) is None

    @rule()
    @precondition(lambda self: self.eligible)
    def dispatch(self) -> None:
        """A job is published."""
        self.now += 1
        self.ledger.dispatch(A, self.now)
        self.truth.sent += 1

    @rule()
    @precondition(lambda self: self.truth.sent)
    def arrive(self) -> None:
        """A job reaches the queue."""
        self.truth.sent -= 1
        self.truth.ready += 1

    @rule()
    @precondition(lambda self: self.truth.sent)
    def arrive_twice(self) -> None:
        """The publishing link broke before the confirm: the job was sent again."""
        self.arrive()
        self.truth.copies += 1
        self.hidden += 1

    @rule()
    @precondition(lambda self: self.truth.sent)
    def refuse(self) -> None:
        """The queue does not take a job."""
        self.truth.sent -= 1
        self.ledger.undo(A)

    @rule()
    @precondition(lambda self: self.truth.ready and self.truth.sessions < CONNECTORS)
    def take(self) -> None:
        """A session begins."""
        self.truth.ready -= 1
        self.truth.sessions += 1
        self.truth.accepted += 1
        self.events.append(self.truth.counts)

    @rule()
    @precondition(lambda self: self.truth.copies)
    def take_copy(self) -> None:
        """A second copy is dropped."""
        self.truth.copies -= 1
        self.truth.duplicates += 1

    @rule()
    @precondition(lambda self: self.truth.sessions)
    def complete(self) -> None:
        """A session ends."""
        self.truth.sessions -= 1
        self.truth.completed += 1
        self.events.append(self.truth.counts)

    @rule()
    @precondition(lambda self: self.truth.ready)
    def vanish(self) -> None:
        """Somebody takes a job out of the queue."""
        self.truth.ready -= 1
        self.gone += 1

    @rule(noticed=st.booleans(), seldom=SELDOM)
    def restart(self, noticed: bool, seldom: bool) -> None:  # noqa: FBT001
        """The process ends and comes back."""
        if seldom:
            self.truth.restart(noticed=noticed)

    @rule()
    @precondition(lambda self: self.truth.held)
    def give_back(self) -> None:
        """The broker notices that a consumer is gone."""
        self.truth.ready += self.truth.held
        self.truth.held = 0

    @rule(data=st.data(), again=st.booleans())
    @precondition(lambda self: self.events)
    def hear_event(self, data: st.DataObject, again: bool) -> None:  # noqa: FBT001
        """An event arrives, not always for the last time."""
        index = data.draw(st.integers(0, len(self.events) - 1))
        counts = self.events[index] if again else self.events.pop(index)
        was = self.ledger.accounts[A].anchored
        self.ledger.report(A, counts)
        assert self.ledger.accounts[A].anchored == was, "an event sets and unsets no scale"
        self.settle(counts)

    @rule(data=st.data())
    @precondition(lambda self: self.events)
    def lose_event(self, data: st.DataObject) -> None:
        """An event never arrives."""
        self.events.pop(data.draw(st.integers(0, len(self.events) - 1)))

    @rule()
    @precondition(lambda self: self.page is None)
    def ask_page(self) -> None:
        """A scrape begins."""
        self.now += 1
        self.page = self.truth.counts, self.now

    @rule()
    @precondition(lambda self: self.page)
    def read_page(self) -> None:
        """Its answer arrives, however late."""
        assert self.page is not None
        counts, asked_at = self.page
        self.page = None
        was = self.ledger.accounts[A].anchored
        self.ledger.read(A, Reading(counts.load, CONNECTORS, counts=counts), asked_at)
        if self.ledger.accounts[A].anchored and not was:
            self.hidden, self.gone = self.hidden_at_depth, self.gone - self.gone_at_depth
        self.settle(counts, from_page=True)

    @rule()
    def fail_page(self) -> None:
        """A scrape fails."""
        self.page = None
        self.ledger.fail(A, "its page is late")

    @rule()
    @precondition(lambda self: self.asking is None and not self.truth.sent)
    def ask_depth(self) -> None:
        """The dispatcher wants to know how much waits in the queue."""
        if A in self.ledger.unanchored():
            self.ledger.ask_depth(A)
            self.asking = self.measure

    def measure(self) -> None:
        """The broker counts what is ready; the answer is on its way."""
        ready = self.truth.ready + self.truth.copies
        self.hidden_at_depth = self.truth.held + self.truth.copies
        self.gone_at_depth = self.gone
        self.asking = lambda: self.ledger.depth(A, ready, self.now)

    @rule(lost=st.booleans())
    @precondition(lambda self: self.asking)
    def go_on_asking(self, lost: bool) -> None:  # noqa: FBT001
        """The question for the depth comes one step further."""
        assert self.asking is not None
        self.now += 1
        going_on, self.asking = self.asking, None
        if lost:
            self.ledger.depth(A, None, self.now)
        else:
            going_on()

    @rule(seldom=SELDOM)
    def leave_and_return(self, seldom: bool) -> None:  # noqa: FBT001
        """The target file drops the substation, and names it again."""
        if seldom:
            self.ledger.keep({})
            self.ledger.keep({A: None})
            self.page = self.latest = None

    @rule()
    def scrape(self) -> None:
        """Ask for a page and get it at once."""
        self.page = None
        self.ask_page()
        self.read_page()

    @rule()
    @precondition(lambda self: not self.truth.sent)
    def set_scale(self) -> None:
        """Go through all steps of it, with nothing in between."""
        for _ in range(3):  # a page may call a scale in doubt that has just been set
            self.scrape()
            if self.asking is None:
                self.ask_depth()
            while self.asking is not None:
                self.go_on_asking(lost=False)
            self.scrape()
            if self.ledger.accounts[A].anchored:
                return
        raise AssertionError("the scale is never set")

    def settle(self, heard: Counts, *, from_page: bool = False) -> None:
        """Note what the ledger must know by now: the latest, and then that nothing is hidden."""
        truth, account = self.truth, self.ledger.accounts[A]
        known = account.counts is not None and account.counts.started_at == truth.started_at
        if heard == truth.counts and (from_page or known):
            self.latest = heard
        if self.latest == truth.counts and truth.load == truth.sessions and not truth.copies:
            self.hidden = 0

    @invariant()
    def is_never_negative(self) -> None:
        """No substation looks lighter than empty."""
        account = self.ledger.accounts[A]
        assert account.load >= 0
        assert account.outstanding >= 0

    @invariant()
    def is_never_lighter_than_the_truth(self) -> None:
        """Old news makes a substation look heavier, never lighter."""
        if self.ledger.accounts[A].anchored:
            assert self.ledger.accounts[A].load >= self.truth.load - self.hidden

    @invariant()
    def is_the_truth_once_all_is_heard(self) -> None:
        """With the newest counters taken in, nothing counts twice."""
        account = self.ledger.accounts[A]
        if self.latest == self.truth.counts:
            assert account.counts == self.latest
            heaviest = self.truth.load + self.truth.copies + self.gone
            assert not account.anchored or account.load <= heaviest

    def teardown(self) -> None:
        """Within one question and one page after all is quiet, the ledger is right again."""
        while self.truth.sent:
            self.arrive()
        self.give_back()
        self.scrape()
        self.now += DOUBT_SECONDS
        self.set_scale()
        account = self.ledger.accounts[A]
        assert self.truth.load - self.hidden <= account.load
        assert account.load <= self.truth.load + self.truth.copies


Drift.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
TestDrift = Drift.TestCase
