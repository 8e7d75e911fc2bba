"""Everything that can happen to a substation and the jobs that are sent there."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from grid.events import Counts
from scheduling.load_tracker import LoadTracker
from scheduling.substation_state import SubstationState
from tests.scheduling.truth import Job, Truth

A = "a"
CONNECTORS = 4
POWERS = st.sampled_from([2.0, 7.4, 22.0, 150.0])
DISTURBANCES = st.sampled_from(
    [
        "send_again", "refuse", "reclaim", "start_dispatcher_anew", "leave_and_return",
        "arrive_twice", "vanish", "restart", "restart_unnoticed", "cut_or_mend", "fail_page",
    ]
)  # fmt: skip


def fresh_tracker() -> LoadTracker:
    """Make what a dispatcher that has just started knows."""
    tracker = LoadTracker(stale_after=1e9, default_connectors=CONNECTORS)
    tracker.keep({A: None})
    return tracker


class World(RuleBasedStateMachine):
    """Pages late, events lost, repeated or out of order, restarts, jobs refused or sent twice.

    ``hidden`` bounds what could not be known when the baseline was set, or was sent a second time:
    it is seen at the latest when nothing is in flight. Until then the powers in flight are
    ``blurred`` too: it is not known which jobs they are of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.truth = Truth()
        self.tracker = fresh_tracker()
        self.events: list[Counts] = []
        self.cut = False  # nothing reaches the event log
        self.page: tuple[Counts, float] | None = None
        self.asking: Callable[[], None] | None = None
        self.latest: Counts | None = None
        self.hidden = 0
        self.hidden_at_depth = 0
        self.blurred = False
        self.gone = 0  # jobs taken out of the queue since its depth was asked for
        self.gone_at_depth = 0

    @property
    def state(self) -> SubstationState:
        """What the load tracker knows."""
        return self.tracker.substations[A]

    # what goes well

    @rule(powers=st.lists(POWERS, min_size=1, max_size=3))
    @precondition(lambda self: self.tracker.ineligible_reason(self.state, self.now) is None)
    def dispatch(self, powers: list[float]) -> None:
        """Jobs are published."""
        self.now += 1
        for power_kw in powers:
            self.send(power_kw)

    @rule(most=st.integers(1, 3))
    @precondition(lambda self: self.truth.sent)
    def arrive(self, most: int) -> None:
        """Jobs reach the queue."""
        for _ in range(min(most, len(self.truth.sent))):
            self.truth.arrive()

    @rule(most=st.integers(1, 3))
    @precondition(lambda self: self.truth.ready and len(self.truth.sessions) < CONNECTORS)
    def take(self, most: int) -> None:
        """Sessions begin."""
        free = CONNECTORS - len(self.truth.sessions)
        for _ in range(min(most, free, len(self.truth.ready))):
            self.truth.take()
            self.write()

    @rule()
    @precondition(lambda self: self.truth.copies)
    def take_copy(self) -> None:
        """A second copy is dropped."""
        self.truth.take_copy()

    @rule(data=st.data())
    @precondition(lambda self: self.truth.sessions)
    def complete(self, data: st.DataObject) -> None:
        """A session ends."""
        self.truth.complete(data.draw(st.integers(0, len(self.truth.sessions) - 1)))
        self.write()

    @rule()
    @precondition(lambda self: self.truth.held)
    def give_back(self) -> None:
        """The broker notices that a consumer is gone."""
        self.truth.give_back()

    def send(self, power_kw: float) -> None:
        """One job is published."""
        self.tracker.dispatch(A, self.now, power_kw)
        self.truth.sent.append(Job(power_kw))

    # what goes wrong

    @rule(what=DISTURBANCES)
    def disturb(self, what: str) -> None:
        """One of the things goes wrong that can, if there is anything to go wrong."""
        getattr(self, what)()

    def send_again(self) -> None:
        """One that an earlier dispatcher may have sent there follows, even without a baseline."""
        if self.tracker.unreadable_reason(self.state, self.now) is None:
            self.send(22.0)

    def refuse(self) -> None:
        """The queue does not take the job sent last."""
        if self.truth.sent:
            self.blurred |= not self.truth.sent.pop().known
            self.tracker.undo(A)

    def reclaim(self) -> None:
        """A job that waits in vain goes elsewhere."""
        if self.truth.ready:
            self.truth.ready.popleft()
            self.tracker.invalidate_baseline(A)

    def start_dispatcher_anew(self) -> None:
        """The dispatcher ends, and another knows nothing; what was published arrives."""
        while self.truth.sent:
            self.truth.arrive()
        self.tracker = fresh_tracker()
        self.page = self.asking = self.latest = None

    def leave_and_return(self) -> None:
        """The target file drops the substation, and names it again."""
        self.tracker.keep({})
        self.tracker.keep({A: None})
        self.page = self.latest = None

    def arrive_twice(self) -> None:
        """The publishing link broke before the confirm: a job was sent again."""
        if self.truth.sent:
            self.truth.arrive()
            self.truth.copies += 1
            self.hidden += 1
            self.blurred = True

    def vanish(self) -> None:
        """Somebody takes a job out of the queue."""
        if self.truth.ready:
            self.truth.ready.popleft()
            self.gone += 1

    def restart(self) -> None:
        """The process ends and comes back; the jobs go back to the queue."""
        self.truth.restart(noticed=True)

    def restart_unnoticed(self) -> None:
        """The machine dies and comes back; the broker holds the jobs for it."""
        self.truth.restart(noticed=False)
        self.blurred = True

    def cut_or_mend(self) -> None:
        """The event log is out of reach for a while."""
        self.cut = not self.cut

    def fail_page(self) -> None:
        """A scrape fails."""
        self.page = None
        self.tracker.fail(A, "its page is late", self.now)

    def write(self) -> None:
        """An event is sent to the dispatcher, if the event log can be reached."""
        if not self.cut:
            self.events.append(self.truth.counts)
