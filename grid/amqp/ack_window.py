"""Which deliveries to acknowledge, in as few frames as possible. Pure.

Work ends out of order. RabbitMQ takes one acknowledgement for everything up to a delivery, and
closes the channel if a delivery is acknowledged twice. So the tags without a gap are acknowledged
at once, and a delivery that is done behind a gap alone, once the gap has had time to close.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import takewhile


class AckWindow:
    """The deliveries of one channel that are not acknowledged yet, by their tags."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, None] = OrderedDict()  # in order of delivery
        self._done: set[int] = set()
        self._passed_over: set[int] = set()

    @property
    def passed_over(self) -> bool:
        """Return whether a delivery behind a gap is acknowledged alone the next time."""
        return bool(self._passed_over)

    def __len__(self) -> int:
        """Return how many deliveries are not acknowledged."""
        return len(self._open)

    @property
    def undone(self) -> int:
        """Return how many deliveries cannot be acknowledged yet."""
        return len(self._open) - len(self._done)

    def delivered(self, tag: int) -> None:
        """Record a new delivery."""
        self._open[tag] = None

    def done(self, tag: int) -> None:
        """Record that a delivery can be acknowledged."""
        self._done.add(tag)

    def drop(self, tag: int) -> None:
        """Forget a delivery that was requeued or rejected instead of done: it leaves no gap."""
        del self._open[tag]

    def take(self) -> list[tuple[int, bool]]:
        """Remove and return what is due: tags, each with whether all up to it are acknowledged."""
        acks = [(tag, True) for tag in self._without_gap()[-1:]]
        for tag in sorted(self._done & self._passed_over):
            del self._open[tag]
            self._done.discard(tag)
            acks.append((tag, False))
        self._passed_over = set(self._done)
        return acks

    def _without_gap(self) -> list[int]:
        tags = list(takewhile(self._done.__contains__, self._open))
        for tag in tags:
            del self._open[tag]
        self._done.difference_update(tags)
        return tags
