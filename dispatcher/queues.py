"""The substations' queues: made where they are missing, and asked how much waits in them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dispatcher.ledger import Ledger
from grid import topology
from grid.amqp import Declarer
from grid.errors import BrokerUnavailable

log = logging.getLogger(__name__)

PERIOD_SECONDS = 0.1
PAUSE_SECONDS = 1.0  # after a failure


class QueueKeeper:
    """Declares each substation's queue, and sets the ledger's scale from its depth.

    ``sending`` tells how many jobs are on their way to a substation's queue: its depth means
    something only while there are none. ``hurry`` asks for a substation's page, which completes
    what the depth began. ``now`` gives the ledger's seconds.
    """

    def __init__(self, ledger: Ledger, declarer: Declarer, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._declarer = declarer
        self._now = now
        self._missing: set[str] = set()
        self.sending: Callable[[str], int]
        self.hurry: Callable[[str], None]

    def missing(self, substation: str) -> None:
        """Note that a substation's queue is to be made."""
        self._missing.add(substation)

    async def run(self) -> None:
        """Keep the queues until the task is cancelled."""
        while True:
            await self._declarer.up.wait()
            try:
                await self._declare_missing()
                await self._ask_depths()
            except BrokerUnavailable as error:
                log.warning("%s", error)
                await asyncio.sleep(PAUSE_SECONDS)
            await asyncio.sleep(PERIOD_SECONDS)

    async def _declare_missing(self) -> None:
        for name in list(self._missing):
            await self._declarer.queue(topology.substation_queue(name))
            self._missing.discard(name)

    async def _ask_depths(self) -> None:
        for name in self._ledger.unanchored():
            if self.sending(name):
                continue
            self._ledger.ask_depth(name)
            ready: int | None = None
            try:
                ready = await self._declarer.queue(topology.substation_queue(name))
            finally:
                self._ledger.depth(name, ready, self._now())
            self.hurry(name)
