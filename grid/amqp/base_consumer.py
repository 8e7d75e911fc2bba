"""What consumers of queues and of streams have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from pika.channel import Channel

from grid.amqp.acknowledger import Acknowledger
from grid.amqp.connection import connection_of, left_to_the_connection
from grid.amqp.delivery import Delivery
from grid.amqp.frames import Content, Envelope
from grid.amqp.link import Watch, future, guarded, settle
from grid.amqp.receiver import Receiver, grant

MAX_CONSUMER_PREFETCH: Final = 2_000  # the most a quorum queue grants one consumer


class BaseConsumer(Receiver):
    """A consumer of a queue; each message is passed to ``_deliver``."""

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        watch: Watch,
        *,
        queue: str,
        prefetch: int,
        leased: bool = False,
    ) -> None:
        super().__init__(name, urls, watch, leased=leased)
        self._queue = queue
        self._prefetch = prefetch
        self._tags: list[str] = []
        self._stopped = False

    def stop(self) -> None:
        """Cancel the consumer; what was delivered can still be acknowledged or requeued."""
        self._stopped = True
        if (channel := self._usable()) is not None:
            self._cancel(channel)

    async def _set_up(self, channel: Channel) -> None:
        self._channel = channel  # what is delivered before the link is up may lapse as well
        await super()._set_up(channel)
        on_message = partial(self._on_message, self._acknowledger)
        connection_of(channel).deliver_to(channel, on_message)
        channel.add_on_cancel_callback(self._on_cancel)
        if self._stopped:
            return
        whole, rest = divmod(self._prefetch, MAX_CONSUMER_PREFETCH)
        shares = [MAX_CONSUMER_PREFETCH] * whole + [rest] * bool(rest)
        self._tags = []  # the former channel's mean nothing on this one
        self._tags = [await self._consume(channel, share) for share in shares]
        if self._stopped:  # stopped meanwhile: what is requeued would come again and again
            self._cancel(channel)

    def _cancel(self, channel: Channel) -> None:
        for tag in self._tags:
            channel.basic_cancel(tag)

    async def _consume(self, channel: Channel, prefetch: int) -> str:
        consuming = future()
        await grant(channel, prefetch)
        tag = channel.basic_consume(
            self._queue,
            left_to_the_connection,
            arguments=self._arguments(),
            callback=partial(settle, consuming),
        )
        await consuming
        return str(tag)

    def _arguments(self) -> dict[str, Any]:
        return {}

    def _on_message(
        self, acknowledger: Acknowledger, envelope: Envelope, content: Content, body: bytes
    ) -> None:
        acknowledger.delivered(envelope.tag)
        delivery = Delivery(
            acknowledger,  # all in the order of the fields
            envelope.tag,
            body,
            self._queue,
            content.id,
            content.headers,
            envelope.redelivered,
            envelope.exchange,
            envelope.key,
        )
        if self._stopped:  # RabbitMQ had sent it before the consumer was cancelled
            delivery.requeue()
        elif not guarded(self._deliver, delivery):
            delivery.reject()  # dead-lettered like poison, and the deliveries after it go on

    @abstractmethod
    def _deliver(self, delivery: Delivery) -> None:
        """Pass on a message, which is to be settled."""

    def _on_cancel(self, _frame: object) -> None:
        """Open the link again when RabbitMQ cancels the consumer: its queue is gone."""
        settle(self._broken, f"RabbitMQ cancelled the consumer of {self._queue}")
