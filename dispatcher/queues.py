"""Declares the substations' queues where they are missing, and reads their depths."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from functools import partial
from math import inf

from grid import topology
from grid.amqp import Declarer, QueueState
from grid.errors import BrokerUnavailable
from grid.isolation import Isolation
from scheduling.load_tracker import LoadTracker

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.1
POLL_SECONDS = 0.5  # between two looks at the queue of a substation that needs them
MAX_LOOKS = 50  # a second, at the queues of substations that need none
GONE_SECONDS = 10.0  # between two looks at an unavailable queue of a substation that left
EMPTY_SECONDS = 60.0  # by then RabbitMQ has requeued what a broken link held
PAUSE_SECONDS = 1.0  # after a failure


class Whereabouts(Enum):
    """Where jobs are that were sent to a substation and have not begun."""

    UNKNOWN = "in its queue, at the substation, or unknown"
    QUEUE_EMPTY = "it consumes jobs, and its queue is empty: it has them, or they are lost"
    SERVED = "it consumes jobs, and others wait: overtaken jobs are not in its queue"
    GONE = "neither its queue nor a living substation has them"


class QueueKeeper:
    """Declares each substation's queue, and reports its depth to the load tracker.

    Args:
        tracker: Receives depths, consumers and problems.
        declarer: Declares queues, and reads their states.
        isolation: Confines unforeseen errors to one queue.
        sending: Returns how many jobs are in flight to a substation's queue; its depth is
            meaningful only if there are none.
        holding: Returns whether jobs reclaimed from a substation's queue are in hand.
        hurry: Requests a substation's page, which completes the baseline that the depth began.
        now: Returns the tracker's seconds.
    """

    def __init__(
        self,
        tracker: LoadTracker,
        declarer: Declarer,
        isolation: Isolation,
        *,
        sending: Callable[[str], int],
        holding: Callable[[str], bool],
        hurry: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._tracker = tracker
        self._isolation = isolation
        self._declarer = declarer
        self._sending = sending
        self._holding = holding
        self._hurry = hurry
        self._now = now
        self._missing: set[str] = set()
        self._made: set[str] = set()  # declared and bound, as far as this dispatcher knows
        self._problems: dict[str, str] = {}
        self._looked_at: dict[str, float] = {}
        self._states: dict[str, QueueState] = {}
        self._empty_since: dict[str, float] = {}  # of those that left

    def missing(self, substation: str) -> None:
        """Record that a substation's queue is to be declared."""
        self._missing.add(substation)

    def state(self, substation: str) -> QueueState | None:
        """Return the state of a substation's queue, as last seen; None if unknown."""
        return self._states.get(substation)

    async def takes_jobs(self, substation: str) -> bool:
        """Return whether a job sent to a substation a while ago must have begun.

        That is so if its queue is empty and has a consumer, its page is read, and its events
        arrive.
        """
        substation_state = self._tracker.substations.get(substation)
        if substation_state is None or substation_state.events_stale(self._now()):
            return False
        if self._tracker.unreadable_reason(substation_state, self._now()) is not None:
            return False
        state = await self._look(substation)
        return state is not None and state.consumers > 0 and not state.ready

    async def whereabouts(self, substation: str) -> Whereabouts:
        """Return where jobs are that were sent to a substation a while ago, and have not begun."""
        substation_state = self._tracker.substations.get(substation)
        if self._holding(substation):
            return Whereabouts.UNKNOWN
        if (
            substation_state is not None
            and self._tracker.unreadable_reason(substation_state, self._now()) is None
        ):
            waiting = substation_state.counts is not None and substation_state.counts.waiting > 0
            if not waiting and await self.takes_jobs(substation):
                return Whereabouts.QUEUE_EMPTY
            return (
                Whereabouts.UNKNOWN
                if substation_state.events_stale(self._now())
                else Whereabouts.SERVED
            )
        name = topology.substation_queue(substation).name
        try:
            state = await self._declarer.look(name)
            if state is None:
                return Whereabouts.GONE
            # RabbitMQ reports a queue without a leader as empty, too; basic.get asks the leader
            if not (state.ready or state.consumers) and await self._declarer.is_empty(name):
                return Whereabouts.GONE
        except BrokerUnavailable:
            pass
        return Whereabouts.UNKNOWN

    async def run(self) -> None:
        """Keep the queues until the task is cancelled."""
        while True:
            before = dict(self._problems)
            await self._declare_missing()
            await self._ask_depths()
            await self._poll()
            self._forget_gone()
            failed = before or self._problems
            await asyncio.sleep(PAUSE_SECONDS if failed else INTERVAL_SECONDS)

    async def _declare_missing(self) -> None:
        for name in list(self._missing):
            with self._of(name):
                if await self._look(name) is not None:
                    self._missing.discard(name)

    async def _ask_depths(self) -> None:
        for name in self._tracker.unsynced():
            if self._sending(name):
                continue
            with self._of(name):
                self._tracker.ask_depth(name)
                state = await self._look(name)
                self._tracker.depth(name, None if state is None else state.ready, self._now())
                self._hurry(name)

    async def _poll(self) -> None:
        for name in self._known():
            if self._now() - self._looked_at.get(name, -inf) >= self._pause(name):
                with self._of(name):
                    await self._look(name)

    def _of(self, name: str) -> AbstractContextManager[None]:
        """Confine an unforeseen error to one queue, and make its substation ineligible."""
        return self._isolation.of(f"the queue of {name}", partial(self._give_up, name))

    def _give_up(self, name: str, problem: str) -> None:
        self._note(name, problem)
        self._tracker.depth(name, None, self._now())  # so that it is read again

    def _forget_gone(self) -> None:
        """Forget what was seen of substations that left: it is outdated when they are back."""
        for seen in (self._problems, self._states, self._looked_at, self._empty_since):
            for gone in seen.keys() - self._known():
                del seen[gone]
        self._missing &= self._tracker.substations.keys()
        self._made &= self._tracker.substations.keys()

    def _known(self) -> set[str]:
        """Return the substations, and those that left and may have jobs in their queues."""
        return self._tracker.substations.keys() | self._tracker.former

    def _pause(self, name: str) -> float:
        """Return the time between two looks at a queue.

        A substation that is cut off, or has no consumer or no counters, is known only by its queue;
        of the others, some are looked at each second.
        """
        substation_state = self._tracker.substations.get(name)
        if substation_state is None:
            return POLL_SECONDS if name in self._states else GONE_SECONDS
        needy = (
            not substation_state.consumers
            or substation_state.counts is None
            or self._tracker.unreadable_reason(substation_state, self._now()) is not None
        )
        others = len(self._tracker.substations) / MAX_LOOKS
        return POLL_SECONDS if needy else max(POLL_SECONDS, others)

    async def _look(self, name: str) -> QueueState | None:
        """Return the state of a substation's queue, declaring it if missing; None if unknown.

        One unavailable queue must not stop the looks at the others.
        """
        await self._declarer.up.wait()
        self._looked_at[name] = self._now()
        try:
            state = await self._ask(name)
        except BrokerUnavailable as error:
            if name not in self._tracker.former:
                self._note(name, str(error))
            self._states.pop(name, None)
            await asyncio.sleep(INTERVAL_SECONDS)  # by then the link knows whether it is still up
            return None
        if state is None:
            self._leave(name)
            return None
        self._problems.pop(name, None)
        self._states[name] = state
        self._tracker.queued(name, state.ready, state.consumers)
        self._see_off(name, state)
        return state

    def _see_off(self, name: str, state: QueueState) -> None:
        """Forget a substation that left once its queue has been empty for a while.

        Its reclaimed jobs return to it if a link breaks before they are safe elsewhere.
        """
        former = self._tracker.former
        if name not in former or state.ready or state.consumers or self._holding(name):
            self._empty_since.pop(name, None)
        elif self._now() - self._empty_since.setdefault(name, self._now()) >= EMPTY_SECONDS:
            former.discard(name)

    async def _ask(self, name: str) -> QueueState | None:
        """Return the state of a queue; None if the queue of a substation that left is gone.

        Queues are declared and bound only for the target file. That costs RabbitMQ four times as
        much as a look, so it is done at first, and when a queue or binding was found missing.
        Raise ``BrokerUnavailable``.
        """
        queue = topology.substation_queue(name)
        if name in self._tracker.former:
            return await self._declarer.look(queue.name)
        if name in self._made and name not in self._missing:
            if (state := await self._declarer.look(queue.name)) is not None:
                return state
            self._made.discard(name)
        state = await self._declarer.queue(queue)
        self._made.add(name)
        return state

    def _leave(self, name: str) -> None:
        """Forget a substation that left and whose queue is gone, unless its jobs are in hand."""
        self._states.pop(name, None)
        if not self._holding(name):
            self._tracker.former.discard(name)

    def _note(self, name: str, problem: str) -> None:
        self._tracker.refuse(name, problem, self._now())
        if self._problems.get(name) != problem:
            self._problems[name] = problem
            log.warning("substation %s is not eligible: %s", name, problem)
