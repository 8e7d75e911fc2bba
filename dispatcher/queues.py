"""What is known of the substations' queues, and which one is to be looked at next. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final

from dispatcher.commands import Command, LookAtQueue, ScrapeNow, Warn
from dispatcher.inputs import QueueObserved
from scheduling.load_tracker import LoadTracker
from scheduling.substation_state import SubstationState

if TYPE_CHECKING:
    from grid.amqp import QueueState

INTERVAL_SECONDS = 0.1  # between two passes over all queues
POLL_SECONDS: Final = 0.5  # between two looks at the queue of a substation that needs them
MAX_LOOKS: Final = 50  # a second, at the queues of substations that need none
# Until a queue that is gone is declared again. If its consumer's channel hears of the deletion only
# after that, RabbitMQ 3.10 counts the consumer on the new queue, and delivers nothing to it.
AGAIN_SECONDS: Final = 1.0
GONE_SECONDS: Final = 10.0  # between two looks at an unavailable queue of a substation that left
EMPTY_SECONDS: Final = 60.0  # by then RabbitMQ has requeued what a broken link held
PAUSE_SECONDS = 1.0  # after a failure


class Whereabouts(Enum):
    """Where jobs are that were sent to a substation and have not begun."""

    UNKNOWN = "in its queue, at the substation, or unknown"
    QUEUE_EMPTY = "it consumes jobs, and its queue is empty: it has them, or they are lost"
    SERVED = "it consumes jobs, and others wait: overtaken jobs are not in its queue"
    GONE = "neither its queue nor a living substation has them"


class Queues:
    """The states of the substations' queues, as last seen.

    The load tracker receives depths, consumers and problems.
    """

    def __init__(self, tracker: LoadTracker) -> None:
        self._tracker = tracker
        self._missing: dict[str, float] = {}  # and when each is to be declared
        self._declared: set[str] = set()  # and bound, as far as this dispatcher knows
        self._problems: dict[str, str] = {}
        self._looked_at: dict[str, float] = {}
        self._states: dict[str, QueueState] = {}
        self._empty_since: dict[str, float] = {}  # of those that left
        self._due: deque[str] = deque()  # found by the last pass, and not looked at since
        self._passed_at = -inf
        self._outdated_before = -inf

    def declare(self, substation: str, now: float) -> None:
        """Record that a substation's queue or its binding is missing: it is to be declared."""
        if substation not in self._declared:
            self._missing.setdefault(substation, now)
            return
        self._missing.setdefault(substation, now + AGAIN_SECONDS)
        self._states.pop(substation, None)
        self._tracker.queued(substation, 0, consumers=0)  # so that no job is sent there meanwhile

    def state(self, substation: str) -> QueueState | None:
        """Return the state of a substation's queue, as last seen; None if unknown."""
        return self._states.get(substation)

    def pop_look(self, publishing: Counter[str], now: float) -> LookAtQueue | None:
        """Remove and return the look that is due next; None if none is.

        ``publishing`` is how many jobs are in flight to each substation's queue: its depth is
        meaningful only if there are none.
        """
        if not self._due and now - self._passed_at >= INTERVAL_SECONDS:
            self._passed_at = now
            self._forget_gone()
            self._due.extend(self._find_due(publishing, now))
        while self._due:
            if self._is_known(name := self._due.popleft()):
                return self._look_at(name, publishing, now)
        return None

    def observe(self, observed: QueueObserved, now: float, *, holding: bool) -> list[Command]:
        """Apply what was seen of a queue; ``holding`` says that jobs reclaimed from it are in hand.

        One unavailable queue must not stop the looks at the others.
        """
        look, state, name = observed.look, observed.state, observed.look.substation
        self._looked_at[name] = now
        if look.depth:
            self._tracker.depth(name, None if state is None else state.ready, now)
        if state is None:
            self._states.pop(name, None)
            if observed.problem:
                return self._refuse(name, observed.problem, now)
            return self._on_gone(name, holding, now)
        self._problems.pop(name, None)
        self._states[name] = state
        if look.declare:
            self._declared.add(name)
            self._missing.pop(name, None)
        self._tracker.queued(name, state.ready, state.consumers)
        self._see_off(name, state, now, holding=holding)
        # the page completes the baseline that the depth began
        return [ScrapeNow(name)] if look.depth else []

    def takes_jobs(self, substation: str, state: QueueState | None, now: float) -> bool:
        """Return whether a job sent to a substation a while ago must have begun.

        That is so if its queue is empty and has a consumer, its page is read, and its events
        arrive.
        """
        known = self._readable(substation, now)
        if known is None or known.events_stale(now) or state is None:
            return False
        return state.consumers > 0 and not state.ready

    def whereabouts(
        self, substation: str, observed: QueueObserved | None, now: float, *, holding: bool
    ) -> Whereabouts | None:
        """Return where jobs are that were sent to a substation a while ago, and have not begun.

        None if that takes a look at its queue, or the word of that queue's leader, which
        ``observed`` does not have.
        """
        known = self._readable(substation, now)
        if holding or (known is not None and known.events_stale(now)):
            return Whereabouts.UNKNOWN
        if known is not None and known.counts is not None and known.counts.waiting > 0:
            return Whereabouts.SERVED
        if observed is None:
            return None
        if known is None:
            return _without_page(observed)
        is_empty = self.takes_jobs(substation, observed.state, now)
        return Whereabouts.QUEUE_EMPTY if is_empty else Whereabouts.SERVED

    def was_looked_at(self, substation: str) -> bool:
        """Return whether a substation's queue was ever looked at, whatever was seen."""
        return substation in self._looked_at

    def consumed_at(self, substation: str) -> float:
        """Return when the last look found a consumer; infinity if it did not, or is outdated."""
        state = self._states.get(substation)
        if state is None or not state.consumers or self._is_outdated(substation):
            return inf
        return self._looked_at[substation]

    def hurry(self, now: float) -> None:
        """Have all queues looked at soon: what was seen before ``now`` may be outdated."""
        self._outdated_before = now

    def _find_due(self, publishing: Counter[str], now: float) -> Iterable[str]:
        """Return the queues that are to be looked at, the urgent ones first."""
        unsynced = (name for name in self._tracker.unsynced() if not publishing[name])
        urgent = dict.fromkeys([*self._missing, *unsynced])
        paused = {name for name, at in self._missing.items() if at > now}
        for name in urgent:
            if name in paused:
                continue
            pause = PAUSE_SECONDS if name in self._problems else INTERVAL_SECONDS
            if now - self._looked_at.get(name, -inf) >= pause:
                yield name
        for name in self._known() - urgent.keys():
            if now - self._looked_at.get(name, -inf) >= self._pause(name, now):
                yield name

    def _look_at(self, name: str, publishing: Counter[str], now: float) -> LookAtQueue:
        """Return the look at a queue.

        Queues are declared and bound only for the target file. That costs RabbitMQ four times as
        much as a look, so it is done at first, and when a queue or binding was found missing.
        """
        declare = name in self._tracker.substations and (
            name not in self._declared or self._missing.get(name, inf) <= now
        )
        depth = self._tracker.needs_depth(name) and not publishing[name]
        if depth:
            self._tracker.ask_depth(name)
        return LookAtQueue(name, declare, depth)

    def _pause(self, name: str, now: float) -> float:
        """Return the time between two looks at a queue.

        A substation that is cut off, or has no consumer or no counters, is known only by its queue;
        of the others, some are looked at each second.
        """
        state = self._tracker.substations.get(name)
        if state is None:
            return POLL_SECONDS if name in self._states else GONE_SECONDS
        if not state.consumers or state.counts is None or self._readable(name, now) is None:
            return POLL_SECONDS
        if self._is_outdated(name):
            return POLL_SECONDS
        return max(POLL_SECONDS, len(self._tracker.substations) / MAX_LOOKS)

    def _is_outdated(self, name: str) -> bool:
        """Return whether a queue was not looked at since a link broke."""
        return self._looked_at.get(name, -inf) < self._outdated_before

    def _readable(self, name: str, now: float) -> SubstationState | None:
        """Return the state of a substation whose page can be read."""
        state = self._tracker.substations.get(name)
        if state is None or self._tracker.unreadable_reason(state, now) is not None:
            return None
        return state

    def _refuse(self, name: str, problem: str, now: float) -> list[Command]:
        if name not in self._tracker.substations:
            return []
        self._tracker.refuse(name, problem, now)
        if self._problems.get(name) == problem:
            return []
        self._problems[name] = problem
        return [Warn(f"substation {name} is not eligible: {problem}")]

    def _on_gone(self, name: str, holding: bool, now: float) -> list[Command]:  # noqa: FBT001
        """Have a missing queue declared; forget one that left, unless its jobs are in hand."""
        if name in self._tracker.substations:
            self.declare(name, now)
        elif not holding:
            self._tracker.former.discard(name)
        return []

    def _see_off(self, name: str, state: QueueState, now: float, *, holding: bool) -> None:
        """Forget a substation that left once its queue has been empty for a while.

        Its reclaimed jobs return to it if a link breaks before they are safe elsewhere.
        """
        former = self._tracker.former
        if name not in former or state.ready or state.consumers or holding:
            self._empty_since.pop(name, None)
        elif now - self._empty_since.setdefault(name, now) >= EMPTY_SECONDS:
            former.discard(name)

    def _known(self) -> set[str]:
        """Return the substations, and those that left and may have jobs in their queues."""
        return self._tracker.substations.keys() | self._tracker.former

    def _is_known(self, name: str) -> bool:
        return name in self._tracker.substations or name in self._tracker.former

    def _forget_gone(self) -> None:
        """Forget what was seen of substations that left: it is outdated when they are back."""
        known = self._known()
        for seen in (self._problems, self._states, self._looked_at, self._empty_since):
            for gone in seen.keys() - known:
                del seen[gone]
        for left in self._missing.keys() - self._tracker.substations.keys():
            del self._missing[left]
        self._declared &= self._tracker.substations.keys()


def _without_page(observed: QueueObserved) -> Whereabouts | None:
    """Return where the jobs of a substation are whose page cannot be read."""
    state = observed.state
    if observed.problem or (state is not None and (state.ready or state.consumers)):
        return Whereabouts.UNKNOWN
    if state is not None and observed.is_empty is None:
        return None  # RabbitMQ reports a queue without a leader as empty, too
    return Whereabouts.GONE if state is None or observed.is_empty else Whereabouts.UNKNOWN
