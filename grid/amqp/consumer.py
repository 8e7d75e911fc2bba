"""Consuming: from a queue with acknowledgements, and from a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from pika import BasicProperties
from pika.channel import Channel
from pika.spec import Basic

from grid.amqp.link import Watch, future, guarded, settle
from grid.amqp.receiver import Delivery, Receiver, received

PREFETCH_MOST: Final = 2_000  # the most a quorum queue grants one consumer
STREAM_PREFETCH: Final = 500


class Consumer(Receiver):
    """Hands each message of a queue to ``deliver``, which sees to it that it is acknowledged.

    ``forget`` is called when the link breaks: from then on the old tags mean nothing, and RabbitMQ
    delivers again what they stood for.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        watch: Watch,
        *,
        queue: str,
        prefetch: int,
        deliver: Callable[[Delivery], None],
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name, urls, watch, forget=forget)
        self._queue = queue
        self._prefetch = prefetch
        self._deliver = deliver
        self._tags: list[str] = []

    def stop(self) -> None:
        """Take nothing new; what was delivered can still be acknowledged or given back."""
        if (channel := self._usable()) is not None:
            for tag in self._tags:
                channel.basic_cancel(tag)

    async def _set_up(self, channel: Channel) -> None:
        # Deliveries come as soon as RabbitMQ has a consumer, before it is known here that it has:
        # acknowledging them must work from the first on.
        self._channel = channel
        channel.add_on_cancel_callback(self._on_cancel)
        whole, rest = divmod(self._prefetch, PREFETCH_MOST)
        shares = [PREFETCH_MOST] * whole + [rest] * bool(rest)
        self._tags = [await self._consume(channel, share) for share in shares]

    async def _consume(self, channel: Channel, prefetch: int) -> str:
        granted, consuming = future(), future()
        channel.basic_qos(prefetch_count=prefetch, callback=partial(settle, granted))
        await granted
        tag = channel.basic_consume(
            self._queue,
            self._on_message,
            arguments=self._arguments(),
            callback=partial(settle, consuming),
        )
        await consuming
        return str(tag)

    def _arguments(self) -> dict[str, Any]:
        return {}

    def _on_message(
        self, _channel: object, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        delivery = received(method, properties, body)
        if not guarded(self._deliver, delivery):
            self.reject(delivery.tag)  # it goes where poison goes, not to those that come after it

    def _on_cancel(self, _frame: object) -> None:
        """Start afresh when RabbitMQ ends the consumer: its queue is gone, or an ack timed out."""
        settle(self._broken, f"RabbitMQ cancelled the consumer of {self._queue}")


class StreamReader(Consumer):
    """Reads a stream from ``start`` on, and after a break goes on with the next message.

    ``start`` is a stream offset as RabbitMQ takes it: ``first``, ``last``, ``next``, a number.
    After ``next``, a link that breaks before its first message may bring some older ones.
    With ``forget``, which is called at each break, all is read again instead: a stream that was
    made anew meanwhile would have nothing at the old position.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        watch: Watch,
        *,
        queue: str,
        start: str | int,
        read: Callable[[bytes], None],
        forget: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            name, urls, watch, queue=queue, prefetch=STREAM_PREFETCH, deliver=self._on_record
        )
        self._forget_all = forget
        self._start = start
        self._next: str | int = start
        self._began: float | None = None
        self._read = read

    async def _set_up(self, channel: Channel) -> None:
        await super()._set_up(channel)
        if self._began is None:
            self._began = asyncio.get_running_loop().time()

    def _arguments(self) -> dict[str, Any]:
        if self._next != "next" or self._began is None:
            return {"x-stream-offset": self._next}
        # nothing read, so no position: all since then, by RabbitMQ's clock, in whole seconds
        seconds = int(asyncio.get_running_loop().time() - self._began) + 2
        return {"x-stream-offset": f"{seconds}s"}

    def _on_record(self, delivery: Delivery) -> None:
        self._next = delivery.headers["x-stream-offset"] + 1
        self.ack(delivery.tag)
        self._read(delivery.body)

    def _lost(self) -> None:
        super()._lost()
        if self._forget_all is not None:
            self._next = self._start
            self._forget_all()

    def _on_cancel(self, frame: object) -> None:
        self._next = self._start  # a stream made anew counts from 0 again
        super()._on_cancel(frame)
