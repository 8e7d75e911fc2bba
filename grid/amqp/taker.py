"""Taking single messages, from any queue, when they are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from pika import BasicProperties
from pika.channel import Channel
from pika.spec import Basic

from grid.amqp.acknowledger import Acknowledger
from grid.amqp.delivery import Delivery
from grid.amqp.link import Watch, future, settle
from grid.amqp.receiver import Receiver


class Taker(Receiver):
    """Gets single messages of queues without consuming; each is acknowledged or requeued.

    ``forget`` is called when the link breaks: from then on the old tags mean nothing, and RabbitMQ
    has back what they stood for.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        watch: Watch,
        *,
        forget: Callable[[], None] = lambda: None,
        leased: bool = False,
    ) -> None:
        super().__init__(name, urls, watch, forget=forget, leased=leased)
        self._turn = asyncio.Lock()  # pika knows one question at a time; its answer gives it back
        self._asked: asyncio.Future[Delivery | None]

    async def take(self, queue: str) -> Delivery | None:
        """Return the first message that is ready in a queue; None where there is none.

        Raise ``BrokerUnavailable`` where the link is down, or breaks over it: RabbitMQ closes it
        where there is no such queue, and with it goes whatever else was taken and not acknowledged.
        """
        return await self._do(f"take from {queue}", lambda channel: self._get(channel, queue))

    async def _get(self, channel: Channel, queue: str) -> Delivery | None:
        await self._turn.acquire()
        asked: asyncio.Future[Delivery | None] = future()
        self._asked = asked
        channel.basic_get(queue, partial(self._on_message, asked, self._acknowledger, queue))
        return await asked

    async def _set_up(self, channel: Channel) -> None:
        await super()._set_up(channel)
        self._turn = asyncio.Lock()
        channel.add_callback(self._on_empty, [Basic.GetEmpty], one_shot=False)

    def _on_message(
        self,
        asked: asyncio.Future[Delivery | None],
        acknowledger: Acknowledger,
        queue: str,
        _channel: Channel,
        method: Basic.GetOk,
        properties: BasicProperties,
        body: bytes,
    ) -> None:
        self._turn.release()
        acknowledger.delivered(method.delivery_tag)
        delivery = Delivery(
            acknowledger,
            method.delivery_tag,
            queue,
            body,
            properties.message_id,
            properties.headers or {},
            redelivered=method.redelivered,
            exchange=method.exchange,
            key=method.routing_key,
            behind=method.message_count,
        )
        if asked.done():  # nobody waits for it any more
            delivery.requeue()
        else:
            asked.set_result(delivery)

    def _on_empty(self, _frame: object) -> None:
        self._turn.release()
        settle(self._asked, None)
