"""Reading a stream, from its start or from an offset, without end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from pika.channel import Channel

from grid.amqp import frames
from grid.amqp.acknowledger import Acknowledger, Send, Soon
from grid.amqp.base_consumer import BaseConsumer
from grid.amqp.connection import Connection, connection_of
from grid.amqp.delivery import Delivery
from grid.amqp.link import Watch, guarded, settle
from grid.provenance import writer_of

STREAM_PREFETCH: Final = 500
ACK_EVERY: Final = STREAM_PREFETCH // 2  # messages; an acknowledgement only makes room for more
ACK_SECONDS: Final = 60.0  # if fewer come: RabbitMQ cancels a consumer that is silent for long
RESUME_SECONDS: Final = 15.0  # in which a new link must get the message that was read last
SLICE_SECONDS: Final = 0.005  # of reading at once: a long log must not block the service

Read = Callable[[bytes, str], None]


class _StreamAcknowledger(Acknowledger):
    """The acknowledgement of messages read in order: one frame covers all up to the last."""

    def __init__(self, channel: int, send: Send, soon: Soon) -> None:
        super().__init__(channel, send, soon)
        self._last = self._count = 0  # of those that were read and are not acknowledged

    def delivered(self, tag: int) -> None:
        """Do nothing: the tag of the last message that was read is enough."""

    def ack(self, tag: int) -> None:
        """Acknowledge a message that was read, and all before it, once they are many."""
        self._last, self._count = tag, self._count + 1
        if self._count >= ACK_EVERY:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(ACK_SECONDS, self.flush)

    def nack(self, tag: int, *, requeue: bool) -> None:
        """Do nothing: a stream cannot requeue a message."""

    def flush(self) -> None:
        """Acknowledge all that was read."""
        self._wait_no_more()
        if self._count:
            self._count = 0
            self._send(frames.ack(self._channel, self._last, multiple=True))


class StreamReader(BaseConsumer):
    """A reader of a stream, which continues with the next message after a break.

    It continues from the message it read last. If that is missing, the stream was deleted and
    declared again meanwhile, and is read from its start.
    """

    def __init__(self, name: str, urls: Sequence[str], watch: Watch, *, queue: str) -> None:
        super().__init__(name, urls, watch, queue=queue, prefetch=STREAM_PREFETCH)
        self._read: Read = _ignore
        self._forget: Callable[[], None] | None = None
        self._start: str | int = "first"
        self._next: str | int = "first"
        self._began: float | None = None
        self._unread: deque[Delivery] = deque()
        self._slice = 0, 0.0  # bytes received when the slice began, and when it ends
        self._resumes_at: int | None = None  # the offset of what was read last, on a new link
        self._read_last = b""
        self._checking: asyncio.TimerHandle | None = None

    @property
    def position(self) -> int:
        """Return the offset of the next message to be read; 0 before the first one."""
        return self._next if isinstance(self._next, int) else 0

    async def run(
        self,
        *,
        read: Read,
        start: str | int = "first",
        forget: Callable[[], None] | None = None,
    ) -> None:
        """Keep the link up and read, until the task is cancelled.

        Args:
            read: called with the body of each message and, of an event, who wrote it.
            start: a stream offset as RabbitMQ takes it (``first``, ``last``, ``next``, a number).
                After ``next``, a link that breaks before its first message may bring some older
                ones.
            forget: called at each break; with it, everything is read again after a break.
        """
        self._read, self._forget = read, forget
        self._start = self._next = start
        await self._run()

    def _acknowledging(self, channel: int, send: Send, soon: Soon) -> Acknowledger:
        return _StreamAcknowledger(channel, send, soon)

    async def _set_up(self, channel: Channel) -> None:
        read_before = self._began is not None and isinstance(self._next, int) and self._next > 0
        self._resumes_at = int(self._next) - 1 if read_before else None
        await super()._set_up(channel)
        if self._began is None:
            self._began = asyncio.get_running_loop().time()

    def _opened(self, connection: Connection, channel: Channel) -> None:
        super()._opened(connection, channel)
        if self._resumes_at is not None:
            loop = asyncio.get_running_loop()
            self._checking = loop.call_later(RESUME_SECONDS, self._begin_anew)

    def _begin_anew(self) -> None:
        """Read the stream from its start: it does not have what was read before."""
        self._next = "first"
        settle(self._broken, f"{self._queue} was made anew: it is read from its start")

    def _arguments(self) -> dict[str, Any]:
        if self._resumes_at is not None:
            return {"x-stream-offset": self._resumes_at}
        if self._next != "next" or self._began is None:
            return {"x-stream-offset": self._next}
        # nothing read, so no position: read all since the start, in seconds of RabbitMQ's clock
        seconds = int(asyncio.get_running_loop().time() - self._began) + 2
        return {"x-stream-offset": f"{seconds}s"}

    def _deliver(self, delivery: Delivery) -> None:
        if self._broken.done():  # it is delivered again on the next link
            return
        if self._resumes_at is not None and not self._accept_first(delivery):
            return
        self._unread.append(delivery)
        if len(self._unread) > 1:
            return  # its turn comes after those before it
        if self._has_time_left():
            self._read_one()
        else:
            self._broken.get_loop().call_soon(self._read_some)

    def _has_time_left(self) -> bool:
        """Return whether this turn of the loop may read on: few messages need no turn of their own.

        All that is delivered in one turn was received at once.
        """
        channel = self._usable()
        if channel is None:
            return False
        now, received = self._broken.get_loop().time(), connection_of(channel).bytes_received
        began, until = self._slice
        if received != began:
            until = now + SLICE_SECONDS
            self._slice = received, until
        return now < until

    def _accept_first(self, delivery: Delivery) -> bool:
        """Find where a link goes on by its first delivery; return whether that is to be read.

        In the same stream it is the message that was read last, or a later one if that was dropped.
        A stream that was declared again may have grown as long meanwhile: then its message is
        another one.
        """
        at, last = int(delivery.headers["x-stream-offset"]), self._resumes_at
        assert last is not None  # noqa: S101
        self._resumes_at = None
        self._check_no_more()
        if at < last or (at == last and delivery.body != self._read_last):
            self._begin_anew()
        elif at == last:
            delivery.ack()
        return at > last

    def _check_no_more(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None

    def _read_some(self) -> None:
        """Read for a moment, then let others have their turn."""
        loop = self._broken.get_loop()
        until = loop.time() + SLICE_SECONDS
        while self._unread and loop.time() < until:
            self._read_one()
        if self._unread:
            loop.call_soon(self._read_some)

    def _read_one(self) -> None:
        delivery = self._unread[0]
        self._next = delivery.headers["x-stream-offset"] + 1
        self._read_last = delivery.body
        guarded(self._read, delivery.body, writer_of(delivery.exchange, delivery.key))
        self._unread.popleft()
        delivery.ack()

    def _end_channel(self) -> None:
        super()._end_channel()
        self._check_no_more()
        self._unread.clear()  # they are delivered again

    def _lost(self) -> None:
        super()._lost()
        if self._forget is not None:
            self._next = self._start
            self._forget()

    def _on_cancel(self, frame: object) -> None:
        while self._unread:  # they are not delivered again
            self._read_one()
        # a stream that is declared again counts from 0
        self._next = "first" if isinstance(self._start, int) else self._start
        super()._on_cancel(frame)


def _ignore(_body: bytes, _writer: str) -> None:
    """Ignore a message: ``run`` has not set a reader yet."""
