"""Which deliveries to acknowledge, in as few frames as can be. Pure.

Work ends out of order. RabbitMQ takes one acknowledgement for everything up to a delivery, and
closes the channel where one is acknowledged twice: so the tags without a gap go at once, and one
that is done behind a gap goes alone, but only after the gap has had a chance to close.
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
        """Return whether there is a delivery behind a gap that goes alone the next time."""
        return bool(self._passed_over)

    def __len__(self) -> int:
        """Return how many deliveries are not acknowledged."""
        return len(self._open)

    @property
    def undone(self) -> int:
        """Return how many deliveries are still to be done."""
        return len(self._open) - len(self._done)

    def delivered(self, tag: int) -> None:
        """Record a new delivery."""
        self._open[tag] = None

    def done(self, tag: int) -> None:
        """Record that a delivery can be acknowledged."""
        self._done.add(tag)

    def drop(self, tag: int) -> None:
        """Forget a delivery that was requeued or rejected, and not done before: it is no gap."""
        del self._open[tag]

    def take(self) -> list[tuple[int, bool]]:
        """Return the acknowledgements that are due: a tag, and whether all before it are meant."""
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
