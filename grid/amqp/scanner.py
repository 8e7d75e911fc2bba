"""Reading parts of a stream: where a part begins, and what is in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from pika import BasicProperties
from pika.channel import Channel
from pika.exceptions import AMQPError
from pika.spec import Basic

from grid.amqp.link import Link, future, settle, sibling
from grid.amqp.receiver import grant
from grid.errors import BrokerUnavailable
from grid.provenance import writer_of

SCAN_PREFETCH: Final = 500
ACK_EVERY: Final = SCAN_PREFETCH // 2
FIRST_SECONDS: Final = 2.0  # in which the first message comes, where there is one
SILENT_SECONDS: Final = 10.0  # without a message: the part does not exist (any more)

See = Callable[[int, bytes, str], None]  # offset, body, who wrote it


class StreamScanner(Link):
    """A reader of parts of streams, on a connection that does nothing else."""

    async def run(self) -> None:
        """Keep the link up until the task is cancelled."""
        await self._run()

    async def first(self, stream: str, start: str) -> int | None:
        """Return the offset of the first message from ``start`` on; None if there is none.

        ``start`` is a stream offset as RabbitMQ takes it, such as ``10s`` or ``last``: the latter
        means the last chunk, in which others may follow. Raise ``BrokerUnavailable``.
        """
        return await self._do(f"look into {stream}", lambda channel: _first(channel, stream, start))

    async def scan(self, stream: str, start: str | int, end: int, see: See) -> None:
        """Call ``see`` with every message from ``start`` up to the offset ``end``, exclusive.

        An exception of ``see`` ends the scan. Raise ``BrokerUnavailable`` if the link breaks, or no
        more messages come before ``end``.
        """
        if (channel := self._usable()) is None:
            raise BrokerUnavailable(f"cannot read {stream}: not connected to RabbitMQ")
        try:
            await self._unless_broken(_scan(channel, stream, start, end, see))
        except (OSError, AMQPError) as error:
            raise BrokerUnavailable(f"cannot read {stream}: {error}") from error


async def _first(channel: Channel, stream: str, start: str) -> int | None:
    found = future()
    async with _reading(channel, 1) as own:
        _fail_with(own, found)
        own.basic_consume(
            stream,
            lambda _channel, _method, properties, _body: settle(found, _offset(properties)),
            arguments={"x-stream-offset": start},
        )
        await asyncio.wait({found}, timeout=FIRST_SECONDS)
    return int(found.result()) if found.done() else None


async def _scan(channel: Channel, stream: str, start: str | int, end: int, see: See) -> None:
    done = future()
    seen = 0

    def on_message(
        own: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        nonlocal seen
        seen += 1
        if done.done():
            return
        offset = _offset(properties)
        try:
            if offset < end:
                see(offset, body, writer_of(method.exchange, method.routing_key))
        except Exception as error:  # noqa: BLE001  # whoever waits for the scan is told
            done.set_exception(error)
            return
        if offset + 1 >= end:
            settle(done, None)
        elif seen % ACK_EVERY == 0:
            own.basic_ack(method.delivery_tag, multiple=True)

    async with _reading(channel, SCAN_PREFETCH) as own:
        _fail_with(own, done)
        arguments: dict[str, Any] = {"x-stream-offset": start}
        own.basic_consume(stream, on_message, arguments=arguments)
        while not done.done():
            before = seen
            await asyncio.wait({done}, timeout=SILENT_SECONDS)
            if not done.done() and seen == before:
                raise ConnectionError(f"nothing came in {SILENT_SECONDS:g} s, before offset {end}")
        await done


@asynccontextmanager
async def _reading(channel: Channel, prefetch: int) -> AsyncIterator[Channel]:
    """Open a channel to read from while the context lasts.

    It is closed at the end: pika would reject what is still delivered to a cancelled consumer. No
    stream allows that, and RabbitMQ would close the connection.
    """
    async with sibling(channel) as own:
        await grant(own, prefetch)
        yield own


def _fail_with(channel: Channel, waiter: asyncio.Future[Any]) -> None:
    """Fail a future if the channel closes, for example because there is no such stream."""

    def closed(_: object, why: Exception) -> None:
        if not waiter.done():
            waiter.set_exception(ConnectionError(str(why)))
            waiter.exception()  # no one may wait for it any more

    channel.add_on_close_callback(closed)


def _offset(properties: BasicProperties) -> int:
    return int(properties.headers["x-stream-offset"])
