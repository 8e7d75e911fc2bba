"""Requests that wait until the event log is read up to them. Pure.

Another dispatcher may have sent a redelivered request just before its link broke. The event log
shows that once it is read up to the arrival of the request. The requests wait for that without a
timeout: if they were sent earlier, a vehicle might be charged twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grid.amqp import Delivery


class HeldRequests:
    """Requests that wait for the next reading of the log, and for the current one."""

    def __init__(self) -> None:
        self._waiting: list[Delivery] = []
        self._reading: list[Delivery] = []
        self._reads = False

    @property
    def live(self) -> list[Delivery]:
        """Return the requests whose link is still up."""
        return _live([*self._reading, *self._waiting])

    @property
    def waits(self) -> bool:
        """Return whether requests wait for a reading that has not begun."""
        return bool(self._waiting)

    def hold(self, delivery: Delivery) -> None:
        """Hold a request; forget those whose link has broken."""
        if self._waiting and not self._waiting[0].is_live:
            self._waiting = _live(self._waiting)
        self._waiting.append(delivery)

    def begin_reading(self, *, anyway: bool = False) -> int | None:
        """Begin a reading of the log, and return for how many requests.

        None if one is in progress, or none is needed now: no request waits, and it is not wanted
        ``anyway``.
        """
        if self._reads:
            return None
        self._reading, self._waiting = _live(self._waiting), []
        self._reads = bool(self._reading) or anyway
        return len(self._reading) if self._reads else None

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
