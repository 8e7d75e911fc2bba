"""The decisions whose requests RabbitMQ may redeliver. Pure: time is an argument.

A decision is in the event log before its job is published, and is settled once RabbitMQ has the
acknowledgement of its request. If this dispatcher ends before, the next one has to know it.
Offsets are those of the event log: a decision comes after what had been read when it was made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

SETTLED_SECONDS: Final = 3.0  # after an acknowledgement was sent, on a link that answers
HANDED_OVER_SECONDS: Final = (
    10.0  # after the first delivery; all inherited requests are delivered by then
)


class Unsettled:
    """Remembers recent acknowledgements, and decisions that others left unsettled."""

    def __init__(self) -> None:
        self._acknowledged: deque[tuple[float, int]] = (
            deque()
        )  # when, and the offset before the decision
        self._inherited: dict[str, int] = {}  # offset by dispatcher
        self._delivered_at: float | None = None  # first delivery since something was inherited

    def acknowledged(self, offset: int, now: float) -> None:
        """Record the acknowledgement of a request whose decision comes after ``offset``."""
        self._acknowledged.append((now, offset))

    def inherit(self, offset: int, dispatcher: str) -> None:
        """Record that a dispatcher's decisions from ``offset`` on may be unsettled.

        It may be this one: RabbitMQ redelivers what it had in hand when a link broke.
        """
        self._inherited[dispatcher] = offset
        self._delivered_at = None

    def delivered(self, now: float) -> None:
        """Record a delivery: RabbitMQ delivers redelivered requests before all others."""
        if self._delivered_at is None:
            self._delivered_at = now

    def prune(self, now: float, *, answering: bool, clear: bool) -> None:
        """Forget what is settled by now.

        ``answering`` says that RabbitMQ answers on the link of the deliveries, ``clear`` that no
        request is held for which the log has to be read first.
        """
        if not answering:
            return
        while self._acknowledged and self._acknowledged[0][0] <= now - SETTLED_SECONDS:
            self._acknowledged.popleft()
        if clear and self._is_handed_over(now):
            self._inherited.clear()

    @property
    def is_own(self) -> bool:
        """Return whether nothing is inherited: no decision of another dispatcher is unsettled."""
        return not self._inherited

    def since(self, in_hand: Iterable[int], position: int) -> int:
        """Return the offset after which the log has all unsettled decisions.

        ``in_hand`` are the offsets of the decisions in hand; the log was read up to ``position``.
        """
        acknowledged = (offset for _, offset in self._acknowledged)
        return min([position, *in_hand, *acknowledged, *self._inherited.values()])

    def _is_handed_over(self, now: float) -> bool:
        return self._delivered_at is not None and now - self._delivered_at >= HANDED_OVER_SECONDS
