"""Requests that wait until the event log is read up to them. Pure.

What RabbitMQ delivers again another dispatcher may have sent just before its link broke. Whether it
has, the event log tells, once it is read as far as it was written when the request came. However
long that takes, the requests wait: sent before, a vehicle may be charged twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grid.amqp import Delivery


class HeldRequests:
    """Requests that wait for one reading of the log, and those for which it is read now."""

    def __init__(self) -> None:
        self._waiting: list[Delivery] = []
        self._reading: list[Delivery] = []
        self._reads = False

    @property
    def live(self) -> list[Delivery]:
        """Return the requests that did not go with their link."""
        return _live([*self._reading, *self._waiting])

    @property
    def waits(self) -> bool:
        """Return whether requests wait for a reading that has not begun."""
        return bool(self._waiting)

    def hold(self, delivery: Delivery) -> None:
        """Hold a request; what went with a link that broke before is forgotten."""
        if self._waiting and not self._waiting[0].is_live:
            self._waiting = _live(self._waiting)
        self._waiting.append(delivery)

    def begin_reading(self) -> int:
        """Begin a reading of the log, and return for how many requests; 0 if it needs none now."""
        if self._reads:
            return 0
        self._reading, self._waiting = _live(self._waiting), []
        self._reads = bool(self._reading)
        return len(self._reading)

    def release(self) -> list[Delivery]:
        """Remove and return the requests for which the log was read, or all if it never was."""
        if self._reads:
            released, self._reading = self._reading, []
        else:
            released, self._waiting = self._waiting, []
        self._reads = False
        return _live(released)


def _live(deliveries: list[Delivery]) -> list[Delivery]:
    return [each for each in deliveries if each.is_live]
