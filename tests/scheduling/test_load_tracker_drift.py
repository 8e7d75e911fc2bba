"""The load tracker against a true substation, driven through any order of events."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from grid.events import Counts
from scheduling.observations import DOUBT_SECONDS
from scheduling.readings import Reading
from tests.examples import examples
from tests.scheduling.world import CONNECTORS, A, World

BACKGROUND_KW = 3.0


class Drift(World):
    """A world whose events and pages may come late, twice, out of order or never."""

    def __init__(self) -> None:
        super().__init__()
        self.sync_baseline()

    # events, pages and depths

    @rule(data=st.data(), again=st.booleans())
    @precondition(lambda self: self.events)
    def apply_counts(self, data: st.DataObject, again: bool) -> None:  # noqa: FBT001
        """Deliver an event, perhaps not for the last time."""
        index = data.draw(st.integers(0, len(self.events) - 1))
        counts = self.events[index] if again else self.events.pop(index)
        was = self.state.synced
        self.tracker.report(A, counts)
        assert self.state.synced == was, "an event changes no baseline"
        self.settle(counts)

    @rule(data=st.data())
    @precondition(lambda self: self.events)
    def lose_event(self, data: st.DataObject) -> None:
        """Lose an event."""
        self.events.pop(data.draw(st.integers(0, len(self.events) - 1)))

    @rule()
    @precondition(lambda self: self.page is None)
    def ask_page(self) -> None:
        """Begin a scrape."""
        self.now += 1
        self.page = self.truth.counts, self.now

    @rule()
    @precondition(lambda self: self.page)
    def read_page(self) -> None:
        """Deliver its answer, however late."""
        assert self.page is not None
        (counts, asked_at), self.page = self.page, None
        before, was = self.state.counts, self.state.synced
        reading = Reading(
            counts.load,
            CONNECTORS,
            counts.power_kw,
            background_power_kw=BACKGROUND_KW,
            counts=counts,
        )
        self.tracker.read(A, reading, asked_at)
        if before is None or before.started_at != counts.started_at:
            self.truth.forget_powers()
        if self.state.synced and not was:
            self.hidden, self.gone = self.hidden_at_depth, self.gone - self.gone_at_depth
        self.settle(counts, from_page=True)

    @rule()
    @precondition(lambda self: self.asking is None and not self.truth.sent)
    def ask_depth(self) -> None:
        """Ask for the depth of the queue."""
        if A in self.tracker.unsynced():
            self.tracker.ask_depth(A)
            self.asking = self.measure

    def measure(self) -> None:
        """Have the broker count the ready messages; the answer is not there yet."""
        ready = len(self.truth.ready) + self.truth.copies
        self.hidden_at_depth = len(self.truth.held) + self.truth.copies
        self.gone_at_depth = self.gone
        self.asking = lambda: self.tracker.depth(A, ready, self.now)

    @rule(lost=st.booleans())
    @precondition(lambda self: self.asking)
    def go_on_asking(self, lost: bool) -> None:  # noqa: FBT001
        """Continue the question for the depth by one step."""
        assert self.asking is not None
        self.now += 1
        going_on, self.asking = self.asking, None
        if lost:
            self.tracker.depth(A, None, self.now)
        else:
            going_on()

    @rule()
    def scrape(self) -> None:
        """Request a page and read it at once."""
        self.page = None
        self.ask_page()
        self.read_page()

    @rule()
    @precondition(lambda self: not self.truth.sent)
    def sync_baseline(self) -> None:
        """Set the baseline in all its steps, with nothing in between."""
        for _ in range(3):  # a page may put a new baseline in doubt
            self.scrape()
            if self.asking is None:
                self.ask_depth()
            while self.asking is not None:
                self.go_on_asking(lost=False)
            self.scrape()
            if self.state.synced:
                return
        raise AssertionError("the baseline is never set")

    def settle(self, heard: Counts, *, from_page: bool = False) -> None:
        """Note what the load tracker must know by now: the counters, and if nothing is hidden."""
        truth, counts = self.truth, self.state.counts
        known = counts is not None and counts.started_at == truth.started_at
        if heard == truth.counts and (from_page or known):
            self.latest = heard
        if self.latest == truth.counts and not truth.on_the_way and not truth.copies:
            self.hidden, self.blurred = 0, False

    # invariants

    @property
    def clear(self) -> bool:
        """Return whether the load tracker can know of all jobs."""
        unseen = self.hidden or self.gone or self.truth.copies
        return self.state.synced and not unseen and not self.blurred

    @invariant()
    def is_never_negative(self) -> None:
        """No substation has a negative load."""
        state = self.state
        assert state.load >= 0
        assert state.outstanding >= 0
        assert state.power_kw >= 0

    @invariant()
    def is_never_lighter_than_the_truth(self) -> None:
        """Old data make a substation look heavier, never lighter."""
        if self.state.synced:
            assert self.state.load >= self.truth.load - self.hidden
        if self.clear:
            assert self.state.power_kw >= self.truth.least_kw + BACKGROUND_KW - 1e-6

    @invariant()
    def is_the_truth_once_all_is_heard(self) -> None:
        """With the newest counters applied, nothing counts twice."""
        if self.latest != self.truth.counts:
            return
        assert self.state.counts == self.latest
        if self.state.synced:
            assert self.state.load <= self.truth.load + self.truth.copies + self.gone
        if self.clear:
            assert self.state.load == self.truth.load
            assert self.state.power_kw == pytest.approx(self.truth.power_kw + BACKGROUND_KW)

    def teardown(self) -> None:
        """Once all is quiet, one question and one page make the load tracker right again."""
        while self.truth.sent:
            self.truth.arrive()
        self.truth.give_back()
        self.scrape()
        self.now += DOUBT_SECONDS
        self.sync_baseline()
        assert self.truth.load - self.hidden <= self.state.load
        assert self.state.load <= self.truth.load + self.truth.copies
        self.is_the_truth_once_all_is_heard()


Drift.TestCase.settings = settings(examples(200), stateful_step_count=60)
TestDrift = Drift.TestCase
