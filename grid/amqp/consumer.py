"""Consuming from a queue, with acknowledgements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from pika.channel import Channel
from pika.exceptions import AMQPError

from grid.amqp.acknowledger import Acknowledger, Send, Soon
from grid.amqp.base_consumer import BaseConsumer
from grid.amqp.connection import Connection
from grid.amqp.declarer import QueueState
from grid.amqp.delivery import Delivery
from grid.amqp.link import Watch, future, guarded, settle
from grid.amqp.receiver import nothing

CHECK_INTERVAL: Final = 2.0  # how often an idle consumer looks at its queue


class Callbacks(NamedTuple):
    """The callbacks of a consumer."""

    deliver: Callable[[Delivery], None] = Delivery.requeue
    lost: Callable[[], None] = nothing
    gone: Callable[[], None] = nothing
    idle: Callable[[], bool] | None = None


class Consumer(BaseConsumer):
    """A consumer that passes on each message of a queue, which is to be acknowledged.

    Where deliveries end out of order, an acknowledgement waits up to ``gap_seconds`` for those
    before it, so that fewer frames are needed.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        watch: Watch,
        *,
        queue: str,
        prefetch: int,
        leased: bool = False,
        gap_seconds: float = 0.0,
    ) -> None:
        super().__init__(name, urls, watch, queue=queue, prefetch=prefetch, leased=leased)
        self._gap_seconds = gap_seconds
        self._callbacks = Callbacks()
        self._delivered = 0
        self._looking: asyncio.Task[None] | None = None

    async def run(
        self,
        *,
        deliver: Callable[[Delivery], None],
        lost: Callable[[], None] = nothing,
        gone: Callable[[], None] = nothing,
        idle: Callable[[], bool] | None = None,
    ) -> None:
        """Keep the link up and consume, until the task is cancelled.

        Args:
            deliver: called with each message.
            lost: called when the link breaks, once no delivery of it is live any more: RabbitMQ
                delivers again what was not acknowledged.
            gone: called before that if the queue was deleted: then nothing is delivered again.
            idle: returns whether nothing is in hand; for the only consumer of a queue. If it then
                gets nothing, though messages are ready, or the queue has no consumer at all, the
                link is opened again: after a queue was deleted and declared again, RabbitMQ 3.10
                may count a consumer and never serve it, or not tell one that it was cancelled.
        """
        self._callbacks = Callbacks(deliver, lost, gone, idle)
        await self._run()

    def stop(self) -> None:
        """Cancel the consumer; what was delivered can still be acknowledged or requeued."""
        self._look_no_more()
        super().stop()

    def _acknowledging(self, channel: int, send: Send, soon: Soon) -> Acknowledger:
        return Acknowledger(channel, send, soon, gap_seconds=self._gap_seconds)

    def _deliver(self, delivery: Delivery) -> None:
        self._delivered += 1
        self._callbacks.deliver(delivery)

    def _on_cancel(self, frame: object) -> None:
        guarded(self._callbacks.gone)
        super()._on_cancel(frame)

    def _opened(self, connection: Connection, channel: Channel) -> None:
        super()._opened(connection, channel)
        if (idle := self._callbacks.idle) is not None:
            self._looking = asyncio.create_task(self._look(channel, idle, self._broken))

    def _end_channel(self) -> None:
        self._look_no_more()
        super()._end_channel()

    def _lost(self) -> None:
        super()._lost()
        self._callbacks.lost()

    def _look_no_more(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def _look(
        self, channel: Channel, idle: Callable[[], bool], broken: asyncio.Future[str]
    ) -> None:
        """End a link that gets nothing, or is not known as a consumer, at two looks in a row."""
        before = ""
        while True:
            delivered, was_idle = self._delivered, idle()
            await asyncio.sleep(CHECK_INTERVAL)
            try:
                found = await _state(channel, self._queue)
            except AMQPError:
                return  # the channel is closed: ``broken`` is settled
            nothing_came = was_idle and idle() and self._delivered == delivered
            now = ""
            if not found.consumers:
                now = f"RabbitMQ knows no consumer of {self._queue}"
            elif found.ready and nothing_came:
                now = f"RabbitMQ brings nothing of {self._queue}, though messages wait"
            if now and before:
                settle(broken, now)
                return
            before = now


async def _state(channel: Channel, queue: str) -> QueueState:
    """Return the state of a queue; RabbitMQ closes the channel if there is none."""
    found = future()
    channel.queue_declare(queue, passive=True, callback=partial(settle, found))
    return QueueState.told((await found).method)
