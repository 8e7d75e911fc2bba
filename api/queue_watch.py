"""Whether the queues for requests and events exist."""

from __future__ import annotations

import asyncio
from typing import Final

from grid import topology
from grid.amqp import Declarer, Publisher
from grid.errors import BrokerUnavailable

QUEUE_CHECK_INTERVAL: Final = 2.0
RETURNED_WINDOW: Final = (
    5.0  # seconds; then ready again, since without requests nothing would be returned
)
# a broker of an earlier version lacks these, and requests work without
OPTIONAL: Final = (topology.CONTROLS_STREAM, topology.CANCELLATIONS_STREAM)
NEEDED: Final = tuple(each for each in topology.QUEUES if each not in OPTIONAL)
MISSING: Final = (
    "the queue {} is missing: run `make up` again, or, with a broker of your own, "
    "`python -m grid declare`"
)


class QueueWatch:
    """A repeated check of the queues for requests and events.

    From RabbitMQ 4.2.6 on the api's user may not inspect queues; there, a request that is returned
    to ``publisher`` as unroutable shows that the most important one is missing.
    """

    def __init__(self, declarer: Declarer, publisher: Publisher) -> None:
        self._declarer = declarer
        self._publisher = publisher
        self._missing: set[str] = set()

    def problems(self) -> list[str]:
        """Return the queues that are missing, as problems of readiness."""
        requests = topology.REQUESTS_EXCHANGE, topology.REQUESTS
        returned = self._publisher.returned_within(RETURNED_WINDOW, *requests)
        missing = self._missing | ({topology.REQUESTS} if returned else set())
        return [MISSING.format(name) for name in sorted(missing)]

    async def run(self) -> None:
        """Check until the task is cancelled."""
        while True:
            await self._declarer.up.wait()
            for queue in NEEDED:
                await self._look(queue.name)
            await asyncio.sleep(QUEUE_CHECK_INTERVAL)

    async def _look(self, name: str) -> None:
        try:
            found = await self._declarer.look(name) is not None
        except BrokerUnavailable:
            found = True  # as far as is known
        if found:
            self._missing.discard(name)
        else:
            self._missing.add(name)
