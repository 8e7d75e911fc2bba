"""How long after RabbitMQ's last answer a delivery may be acted on.

A process that is stopped and continued, or a machine that is suspended, finds its deliveries as it
left them, though RabbitMQ may have given them to another consumer since. RabbitMQ drops a consumer
after it has heard nothing for two heartbeats at least, so one that had an answer on the very
channel a moment ago is still the consumer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

LEASE_SECONDS: Final = 1.0  # far below two heartbeats, before which RabbitMQ drops nobody
RENEW_SECONDS: Final = 0.25  # between an answer and the next question
ANSWER_SECONDS: Final = 15.0  # without an answer, the link is opened again


# returns seconds that also pass while the machine is suspended
boot_time: Final = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class Lease:
    """The right to act on what a channel has delivered.

    ``now`` returns steady seconds, and ``until`` is the last of them at which it holds.
    """

    def __init__(self, now: Callable[[], float] = boot_time) -> None:
        self._now = now
        self.until = -inf

    @property
    def holds(self) -> bool:
        """Return whether RabbitMQ has answered recently enough."""
        return self._now() <= self.until

    def now(self) -> float:
        """Return the time by which the lease is measured, in seconds."""
        return self._now()

    def renew(self, since: float) -> None:
        """Renew the lease from a time at which the channel was there for certain."""
        self.until = since + LEASE_SECONDS
