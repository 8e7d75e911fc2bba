"""Which decisions RabbitMQ may deliver the requests of again. Pure: time is an argument.

A decision stands in the event log before its job is published, and is settled once RabbitMQ has the
acknowledgement of its request. Should this dispatcher end before, the next one has to know it.
Offsets are those of the event log: a decision stands behind what had been read when it was made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

SETTLED_SECONDS: Final = 3.0  # after an acknowledgement was handed over, on a link that answers
HANDED_OVER_SECONDS: Final = 10.0  # in which RabbitMQ delivers again what another one had


class Unsettled:
    """Remembers what was acknowledged just now, and what another dispatcher left unsettled."""

    def __init__(self) -> None:
        self._acknowledged: deque[tuple[float, int]] = deque()  # when, and the offset before it
        self._inherited: tuple[float, int] | None = None

    def acknowledged(self, offset: int, now: float) -> None:
        """Record the acknowledgement of a request whose decision stands behind ``offset``."""
        self._acknowledged.append((now, offset))

    def inherit(self, offset: int, now: float) -> None:
        """Record that another dispatcher's decisions from ``offset`` on may be unsettled.

        Or one's own, of requests that RabbitMQ will deliver again.
        """
        self._inherited = now, offset

    def since(
        self, in_hand: Iterable[int], position: int, now: float, *, answering: bool, clear: bool
    ) -> int:
        """Return the offset from which on all unsettled decisions stand.

        ``in_hand`` are the offsets of the decisions in hand, ``position`` how far the log was read.
        ``answering`` says that RabbitMQ answers on the link of the deliveries, ``clear`` that no
        request is held for which the log has to be read first.
        """
        if answering:
            while self._acknowledged and self._acknowledged[0][0] <= now - SETTLED_SECONDS:
                self._acknowledged.popleft()
        offsets = [position, *in_hand, *(offset for _, offset in self._acknowledged)]
        if (known := self._inherited) is not None:
            if answering and clear and known[0] <= now - HANDED_OVER_SECONDS:
                self._inherited = None
            else:
                offsets.append(known[1])
        return min(offsets)
