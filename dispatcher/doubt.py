"""Requests that come again: another dispatcher may have sent them just before its link broke.

Whether it has, the event log tells, once it is read as far as it was written when the request came.
RabbitMQ delivers a request again at once, and the log may be read a moment later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from grid.amqp import Delivery
from grid.waiting import within

log = logging.getLogger(__name__)

LOG_SECONDS: Final = 5.0  # to read the event log at the start, before deciding all the same
DOUBT_SECONDS: Final = 15.0  # the same for what comes again: RabbitMQ's streams may be back late
ReadLog = Callable[[], Coroutine[Any, Any, None]]
NOT_READ: Final = "the event log is not read yet: a job sent just before may be sent twice"


class Doubt:
    """Holds requests until the event log is read up to them, then hands them to ``take``.

    ``read_log`` comes back when all is read that was written before the call.
    """

    def __init__(self, read_log: ReadLog, take: Callable[[Delivery], None]) -> None:
        self._read_log = read_log
        self._take = take
        self._held: list[Delivery] = []
        self._asked = asyncio.Event()
        self._epoch = 0  # of the consuming link: a tag of an older one means nothing

    def hold(self, delivery: Delivery) -> None:
        """Hold a request."""
        self._held.append(delivery)
        self._asked.set()

    def forget(self) -> None:
        """Let go of all: the link broke, and RabbitMQ delivers them again."""
        self._epoch += 1
        self._held.clear()

    async def run(self) -> None:
        """Read the log for what is held, again and again, until the task is cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            epoch, (held, self._held) = self._epoch, (self._held, [])
            if held and not await within(DOUBT_SECONDS, self._read_log()):
                log.warning(NOT_READ)
            if epoch == self._epoch:
                for each in held:
                    self._take(each)
