"""Getting single messages of any queue on demand (``basic.get``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pika import BasicProperties
from pika.channel import Channel
from pika.spec import Basic

from grid.amqp.delivery import Delivery
from grid.amqp.link import Watch, future, settle
from grid.amqp.receiver import Receiver, nothing


class Taker(Receiver):
    """A link that gets single messages of queues; each is acknowledged or requeued.

    When the link breaks, RabbitMQ has back what is not acknowledged.
    """

    def __init__(
        self, name: str, urls: Sequence[str], watch: Watch, *, leased: bool = False
    ) -> None:
        super().__init__(name, urls, watch, leased=leased)
        self._tell_lost = nothing
        self._turn = asyncio.Lock()  # pika allows one question at a time; its answer releases it
        self._asked: asyncio.Future[Delivery | None]

    async def run(self, *, lost: Callable[[], None] = nothing) -> None:
        """Keep the link up until the task is cancelled.

        Args:
            lost: called when the link breaks, once no delivery of it is live any more.
        """
        self._tell_lost = lost
        await self._run()

    async def take(self, queue: str) -> Delivery | None:
        """Return the first message that is ready in a queue; None if there is none.

        Raise ``BrokerUnavailable`` if the link is down, or breaks meanwhile: RabbitMQ closes it if
        there is no such queue, and requeues whatever else was taken and not acknowledged.
        """
        came: list[Delivery] = []
        try:
            return await self._do(
                f"take from {queue}", lambda channel: self._get(channel, queue, came)
            )
        except BaseException:
            for each in came:  # came in the very turn in which the caller gave up
                each.requeue()
            raise

    async def _get(self, channel: Channel, queue: str, came: list[Delivery]) -> Delivery | None:
        await self._turn.acquire()
        asked: asyncio.Future[Delivery | None] = future()
        self._asked = asked
        acknowledger = self._acknowledger

        def on_message(
            _: Channel, method: Basic.GetOk, properties: BasicProperties, body: bytes
        ) -> None:
            self._turn.release()
            acknowledger.delivered(method.delivery_tag)
            delivery = Delivery(
                acknowledger,
                method.delivery_tag,
                body,
                queue=queue,
                id=properties.message_id,
                headers=properties.headers or {},
                redelivered=method.redelivered,
                exchange=method.exchange,
                key=method.routing_key,
                behind=method.message_count,
            )
            if asked.done():  # the caller has given up
                delivery.requeue()
            else:
                came.append(delivery)
                asked.set_result(delivery)

        channel.basic_get(queue, on_message)
        return await asked

    async def _set_up(self, channel: Channel) -> None:
        await super()._set_up(channel)
        self._turn = asyncio.Lock()
        channel.add_callback(self._on_empty, [Basic.GetEmpty], one_shot=False)

    def _lost(self) -> None:
        super()._lost()
        self._tell_lost()

    def _on_empty(self, _frame: object) -> None:
        self._turn.release()
        settle(self._asked, None)
