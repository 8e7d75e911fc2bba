"""A message as RabbitMQ hands it over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from grid.amqp.acknowledger import Acknowledger


class Delivery(Struct, eq=False):
    """A message of a queue, which is to be acknowledged, requeued or rejected, once.

    Anything after that does nothing: a second settling, or one after the link broke, when RabbitMQ
    has the message back and delivers it again, as another delivery.

    ``queue`` is where it came from; ``exchange`` and ``key`` are those it was published with, which
    a stream keeps as well. ``behind`` is how many others were ready behind one that was asked for.
    """

    _acknowledger: Acknowledger | None  # None once it is settled
    _tag: int
    body: bytes
    queue: str
    id: str | None
    headers: Mapping[str, Any]
    redelivered: bool = False
    exchange: str = ""
    key: str = ""
    behind: int = 0

    @property
    def is_live(self) -> bool:
        """Return whether it is still to be settled, on the channel that delivered it.

        It is not once the link has found that its channel is gone, just before ``lost`` is called,
        nor once the link has ended.
        """
        acknowledger = self._acknowledger
        return acknowledger is not None and acknowledger.is_live

    @property
    def is_settled(self) -> bool:
        """Return whether it was acknowledged, requeued or rejected, even if its link had broken."""
        return self._acknowledger is None

    def ack(self) -> None:
        """Acknowledge it: RabbitMQ forgets it."""
        acknowledger, self._acknowledger = self._acknowledger, None
        if acknowledger is not None and acknowledger.is_live:
            acknowledger.ack(self._tag)

    def requeue(self) -> None:
        """Return it to its queue."""
        self._nack(requeue=True)

    def reject(self) -> None:
        """Reject it: RabbitMQ dead-letters it, if its queue has a dead-letter exchange."""
        self._nack(requeue=False)

    def _nack(self, *, requeue: bool) -> None:
        acknowledger, self._acknowledger = self._acknowledger, None
        if acknowledger is not None and acknowledger.is_live:
            acknowledger.nack(self._tag, requeue=requeue)
