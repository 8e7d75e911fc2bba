"""Reading a stream: the whole of it, or from somewhere on, and on and on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from pika.channel import Channel

from grid.amqp.consumer import Consumer, grant
from grid.amqp.link import Watch, future, guarded, settle
from grid.amqp.receiver import Delivery
from grid.provenance import writer_of

STREAM_PREFETCH: Final = 500
SLICE_SECONDS: Final = 0.005  # of reading at once: a long log must not keep a service from others
FIRST_SECONDS: Final = 0.5  # in which the first message comes, where there is one


class ReadBack(NamedTuple):
    """How far back a stream is read: so many messages or seconds, whichever is more.

    The seconds alone would be too few where nothing was written for a while.
    """

    messages: int
    seconds: int


class StreamReader(Consumer):
    """Reads a stream from ``start`` on, and after a break goes on with the next message.

    ``start`` is a stream offset as RabbitMQ takes it (``first``, ``last``, ``next``, a number), or
    how far back from now.
    After ``next``, a link that breaks before its first message may bring some older ones.
    ``read`` is given the body of each message and, of an event, who wrote it.
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
        start: str | int | ReadBack,
        read: Callable[[bytes, str], None],
        forget: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            name, urls, watch, queue=queue, prefetch=STREAM_PREFETCH, deliver=self._on_record
        )
        self._forget_all = forget
        self._start = start
        self._next = start
        self._began: float | None = None
        self._read = read
        self._unread: deque[Delivery] = deque()

    async def _set_up(self, channel: Channel) -> None:
        if isinstance(self._next, ReadBack):
            self._next = await self._position(channel, self._next)
        await super()._set_up(channel)
        if self._began is None:
            self._began = asyncio.get_running_loop().time()

    async def _position(self, channel: Channel, back: ReadBack) -> str | int:
        """Give the position so far back; where a stream ends, only its last message tells."""
        last = await self._first(channel, "last")
        if last is None:
            return "first"
        since = await self._first(channel, f"{back.seconds}s")
        return max(0, min(last - back.messages, last if since is None else since))

    async def _first(self, channel: Channel, start: str) -> int | None:
        """Give the position of the first message that is read from somewhere on, None if none."""
        found = future()
        await grant(channel, 1)
        tag = channel.basic_consume(
            self._queue,
            lambda _channel, _method, properties, _body: settle(
                found, properties.headers["x-stream-offset"]
            ),
            arguments={"x-stream-offset": start},
        )
        await asyncio.wait({found}, timeout=FIRST_SECONDS)
        channel.basic_cancel(tag)
        return int(found.result()) if found.done() else None

    def _arguments(self) -> dict[str, Any]:
        if self._next != "next" or self._began is None:
            return {"x-stream-offset": self._next}
        # nothing read, so no position: all since then, by RabbitMQ's clock, in whole seconds
        seconds = int(asyncio.get_running_loop().time() - self._began) + 2
        return {"x-stream-offset": f"{seconds}s"}

    def _on_record(self, delivery: Delivery) -> None:
        if not self._unread:
            asyncio.get_running_loop().call_soon(self._read_some)
        self._unread.append(delivery)

    def _read_some(self) -> None:
        """Read for a moment, then let others have their turn."""
        loop = asyncio.get_running_loop()
        until, last = loop.time() + SLICE_SECONDS, 0
        while self._unread and loop.time() < until:
            last = self._read_one()
        if last:
            self.ack(last, multiple=True)
        if self._unread:
            loop.call_soon(self._read_some)

    def _read_one(self) -> int:
        delivery = self._unread[0]
        self._next = delivery.headers["x-stream-offset"] + 1
        guarded(self._read, delivery.body, writer_of(delivery.exchange, delivery.key))
        self._unread.popleft()
        return delivery.tag

    def _lost(self) -> None:
        super()._lost()
        self._unread.clear()  # they come again
        if self._forget_all is not None:
            self._next = self._start
            self._forget_all()

    def _on_cancel(self, frame: object) -> None:
        while self._unread:  # they do not come again
            self._read_one()
        self._next = self._start  # a stream made anew counts from 0 again
        super()._on_cancel(frame)
