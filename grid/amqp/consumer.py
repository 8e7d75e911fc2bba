"""Consuming from a queue, with acknowledgements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from pika.channel import Channel
from pika.exceptions import AMQPError

from grid.amqp.acknowledger import Acknowledger
from grid.amqp.connection import Connection, connection_of, left_to_the_connection
from grid.amqp.declarer import QueueState
from grid.amqp.delivery import Delivery
from grid.amqp.frames import Content, Envelope
from grid.amqp.link import Watch, future, guarded, settle
from grid.amqp.receiver import Receiver, grant

PREFETCH_MOST: Final = 2_000  # the most a quorum queue grants one consumer
LOOK_SECONDS: Final = 2.0  # how often a consumer that has nothing in hand looks at its queue


class Consumer(Receiver):
    """Passes each message of a queue to ``deliver``, which has it acknowledged.

    ``forget`` is called when the link breaks: from then on the old tags mean nothing, and RabbitMQ
    delivers again what they stood for. Before it, ``gone`` is called where the queue was deleted:
    then nothing comes again.

    One that is alone at its queue says by ``idle`` when it has nothing in hand. Where it is brought
    nothing then, though messages wait, or the queue has no consumer at all, the link is made anew:
    after a queue was deleted and made again, RabbitMQ 3.10 may count a consumer and never serve it,
    or not tell one that it is none any more.

    Where deliveries end out of order, an acknowledgement waits up to ``gap_seconds`` for those
    before it, so that fewer frames do.
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
        gone: Callable[[], None] = lambda: None,
        idle: Callable[[], bool] | None = None,
        leased: bool = False,
        gap_seconds: float = 0.0,
    ) -> None:
        super().__init__(name, urls, watch, forget=forget, leased=leased)
        self._queue = queue
        self._gap_seconds = gap_seconds
        self._prefetch = prefetch
        self._deliver = deliver
        self._gone = gone
        self._idle = idle
        self._delivered = 0
        self._tags: list[str] = []
        self._stopped = False
        self._looking: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Cancel the consumer; what was delivered can still be acknowledged or requeued."""
        self._look_no_more()
        self._stopped = True
        if (channel := self._usable()) is not None:
            for tag in self._tags:
                channel.basic_cancel(tag)

    def _acknowledging(self, channel: int, send: Callable[[bytes], None]) -> Acknowledger:
        return Acknowledger(channel, send, gap_seconds=self._gap_seconds)

    async def _set_up(self, channel: Channel) -> None:
        self._channel = channel  # what comes before the link is up may lapse as well
        await super()._set_up(channel)
        on_message = partial(self._on_message, self._acknowledger)
        connection_of(channel).deliver_to(channel, on_message)
        channel.add_on_cancel_callback(self._on_cancel)
        if self._stopped:
            return
        whole, rest = divmod(self._prefetch, PREFETCH_MOST)
        shares = [PREFETCH_MOST] * whole + [rest] * bool(rest)
        self._tags = [await self._consume(channel, share) for share in shares]

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
        tag, redelivered, exchange, key = envelope
        acknowledger.delivered(tag)
        delivery = Delivery(
            acknowledger,
            tag,
            body,
            queue=self._queue,
            id=content.id,
            headers=content.headers,
            redelivered=redelivered,
            exchange=exchange,
            key=key,
        )
        if self._stopped:  # RabbitMQ had sent it before it knew
            delivery.requeue()
            return
        self._delivered += 1
        if not guarded(self._deliver, delivery):
            delivery.reject()  # it goes where poison goes, not to those that come after it

    def _on_cancel(self, _frame: object) -> None:
        """Start afresh when RabbitMQ ends the consumer: its queue is gone."""
        guarded(self._gone)
        settle(self._broken, f"RabbitMQ cancelled the consumer of {self._queue}")

    def _opened(self, connection: Connection, channel: Channel) -> None:
        super()._opened(connection, channel)
        if self._idle is not None:
            self._looking = asyncio.create_task(self._look(channel, self._idle, self._broken))

    def _lost(self) -> None:
        self._look_no_more()
        super()._lost()

    def _look_no_more(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def _look(
        self, channel: Channel, idle: Callable[[], bool], broken: asyncio.Future[str]
    ) -> None:
        """End a link that at two looks in a row is brought nothing, or is not known as one."""
        before = ""
        while True:
            delivered, was_idle = self._delivered, idle()
            await asyncio.sleep(LOOK_SECONDS)
            try:
                found = await _state(channel, self._queue)
            except AMQPError:
                return  # the channel is closed, and whoever waits for that is told
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
    """Return the state of a queue; RabbitMQ closes the channel where there is none."""
    found = future()
    channel.queue_declare(queue, passive=True, callback=partial(settle, found))
    return QueueState.told((await found).method)
