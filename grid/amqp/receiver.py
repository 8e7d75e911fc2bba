"""What every link that receives has in common: a delivery, and the ways it can end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pika import BasicProperties
from pika.spec import Basic

from grid.amqp.link import Link, Watch


class Delivery(NamedTuple):
    """A message from a queue; ``tag`` is good until the link breaks.

    ``behind`` is how many others were ready behind one that was asked for. ``exchange`` and ``key``
    are those it was published with: a stream keeps them as well.
    """

    tag: int
    body: bytes
    id: str | None
    redelivered: bool
    headers: Mapping[str, Any]
    behind: int = 0
    exchange: str = ""
    key: str = ""


class Receiver(Link):
    """A link whose deliveries are to be acknowledged.

    ``forget`` is called when the link breaks: from then on the old tags mean nothing, and RabbitMQ
    has back what they stood for.
    """

    def __init__(
        self, name: str, urls: Sequence[str], watch: Watch, *, forget: Callable[[], None]
    ) -> None:
        super().__init__(name, urls, watch)
        self._forget = forget

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or with ``multiple`` every one up to it."""
        if (channel := self._usable()) is not None:
            channel.basic_ack(tag, multiple)

    def requeue(self, tag: int) -> None:
        """Give one delivery back to the queue."""
        if (channel := self._usable()) is not None:
            channel.basic_nack(tag, requeue=True)

    def reject(self, tag: int) -> None:
        """Refuse one delivery for good: it goes where the queue sends what is dead."""
        if (channel := self._usable()) is not None:
            channel.basic_nack(tag, requeue=False)

    def _lost(self) -> None:
        self._forget()


def received(
    method: Basic.Deliver | Basic.GetOk, properties: BasicProperties, body: bytes
) -> Delivery:
    """Give a message as pika brings it in the form the services see."""
    headers = properties.headers or {}
    behind = method.message_count if isinstance(method, Basic.GetOk) else 0
    return Delivery(
        method.delivery_tag,
        body,
        properties.message_id,
        method.redelivered,
        headers,
        behind,
        method.exchange,
        method.routing_key,
    )
