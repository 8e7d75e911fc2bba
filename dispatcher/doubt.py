"""Requests that come again: another dispatcher may have sent them just before its link broke.

Whether it has, the event log tells, once it is read as far as it was written when the request came.
RabbitMQ delivers a request again at once, and the log may be read a moment later. However long that
takes, the requests wait: sent before, a vehicle may be charged twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from grid.amqp import Delivery

log = logging.getLogger(__name__)

SLOW_SECONDS: Final = 15.0  # RabbitMQ's streams may be back late; beyond, the log says so
ReadLog = Callable[[], Coroutine[Any, Any, None]]
NOT_READ: Final = (
    "%d requests that were delivered again wait: the event log is not read up to them yet"
)


class Doubt:
    """Holds requests until the event log is read up to them, then hands them to ``take``.

    ``read_log`` comes back when all is read that was written before the call.
    """

    def __init__(self, read_log: ReadLog, take: Callable[[Delivery], None]) -> None:
        self._read_log = read_log
        self._take = take
        self._held: list[Delivery] = []
        self._asked = asyncio.Event()
        self._reading: list[Delivery] = []  # for which the log is being read

    def hold(self, delivery: Delivery) -> None:
        """Hold a request."""
        self._held = with_one_more(self._held, delivery)
        self._asked.set()

    @property
    def held(self) -> list[Delivery]:
        """Return the requests that wait for the log, and did not go with their link."""
        return live([*self._reading, *self._held])

    async def run(self) -> None:
        """Read the log for what is held, again and again, until the task is cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._reading, self._held = live(self._held), []
            if self._reading:
                await self._read(len(self._reading))
            read, self._reading = live(self._reading), []
            for each in read:
                self._take(each)

    async def _read(self, count: int) -> None:
        """Read the log, however long that takes."""
        reading = asyncio.ensure_future(self._read_log())
        try:
            done, _ = await asyncio.wait({reading}, timeout=SLOW_SECONDS)
            if not done:
                log.warning(NOT_READ, count)
            await reading
        finally:
            reading.cancel()


def with_one_more(held: list[Delivery], delivery: Delivery) -> list[Delivery]:
    """Return what is held and a delivery, without what went with a link that broke before."""
    held = held if not held or held[0].is_live else live(held)
    held.append(delivery)
    return held


def live(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """Return those deliveries that RabbitMQ has not back."""
    return [each for each in deliveries if each.is_live]
