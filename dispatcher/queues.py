"""The substations' queues: made where they are missing, and asked how much waits in them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dispatcher.ledger import Ledger
from grid import topology
from grid.amqp import Declarer, QueueState
from grid.errors import BrokerUnavailable

log = logging.getLogger(__name__)

PERIOD_SECONDS = 0.1
POLL_SECONDS = 1.0  # between two looks at the queue of a substation without counters
PAUSE_SECONDS = 1.0  # after a failure


class QueueKeeper:
    """Declares each substation's queue, and tells the ledger how much waits in it.

    ``sending`` tells how many jobs are on their way to a substation's queue: its depth means
    something only while there are none. ``hurry`` asks for a substation's page, which completes
    what the depth began. ``now`` gives the ledger's seconds.
    """

    def __init__(self, ledger: Ledger, declarer: Declarer, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._declarer = declarer
        self._now = now
        self._missing: set[str] = set()
        self._problems: dict[str, str] = {}
        self._poll_at = 0.0
        self.sending: Callable[[str], int]
        self.hurry: Callable[[str], None]

    def missing(self, substation: str) -> None:
        """Note that a substation's queue is to be made."""
        self._missing.add(substation)

    async def run(self) -> None:
        """Keep the queues until the task is cancelled."""
        while True:
            before = dict(self._problems)
            await self._declare_missing()
            await self._ask_depths()
            if self._now() >= self._poll_at:
                self._poll_at = self._now() + POLL_SECONDS
                await self._poll_uncounted()
            failed = before or self._problems
            await asyncio.sleep(PAUSE_SECONDS if failed else PERIOD_SECONDS)

    async def _declare_missing(self) -> None:
        for name in list(self._missing):
            if await self._look(name) is not None:
                self._missing.discard(name)

    async def _ask_depths(self) -> None:
        for name in self._ledger.unanchored():
            if self.sending(name):
                continue
            self._ledger.ask_depth(name)
            state = await self._look(name)
            self._ledger.depth(name, None if state is None else state.ready, self._now())
            self.hurry(name)

    async def _poll_uncounted(self) -> None:
        for name in self._ledger.uncounted():
            if (state := await self._look(name)) is not None:
                self._ledger.queued(name, state.ready, state.consumers)

    async def _look(self, name: str) -> QueueState | None:
        """Declare a substation's queue; gives its state, or None where that is not to be had.

        One queue that cannot be had must not keep the others from being looked at.
        """
        await self._declarer.up.wait()
        try:
            state = await self._declarer.queue(topology.substation_queue(name))
        except BrokerUnavailable as error:
            self._note(name, str(error))
            await asyncio.sleep(PERIOD_SECONDS)  # by then the link knows whether it is still up
            return None
        self._problems.pop(name, None)
        return state

    def _note(self, name: str, problem: str) -> None:
        self._ledger.fail(name, problem)
        if self._problems.get(name) != problem:
            self._problems[name] = problem
            log.warning("nothing goes to %s: %s", name, problem)
