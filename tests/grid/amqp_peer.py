"""A scripted AMQP peer: what RabbitMQ may do, and does not do when a test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pika import BasicProperties, spec
from pika.frame import Body, Header, Method, decode_frame

CAPABILITIES = {"basic.nack": True, "publisher_confirms": True, "consumer_cancel_notify": True}
HEARTBEAT = 60
MAX_FRAME = 131_072


class Peer:
    """Listens on a port. While it ``hangs``, it answers nothing but reads all."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: list[PeerConnection] = []
        self.hangs = False
        self.consumed: Callable[[PeerConnection], None] = lambda _: None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client."""
        connection = PeerConnection(self, writer)
        self.connections.append(connection)
        try:
            await connection.answer(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class PeerConnection:
    """One connection of a client, with one channel that consumes or publishes."""

    def __init__(self, peer: Peer, writer: asyncio.StreamWriter) -> None:
        self.received: list[Any] = []  # methods
        self.arguments: dict[str, Any] = {}  # of the consumer
        self._peer = peer
        self._writer = writer
        self._channel = 0
        self._consumer = ""
        self._tag = 0

    async def answer(self, reader: asyncio.StreamReader) -> None:
        """Read methods and answer them, until the client is gone."""
        await reader.readexactly(8)
        self.send(0, spec.Connection.Start(0, 9, {"capabilities": CAPABILITIES}, "PLAIN", "en_US"))
        unread = b""
        while data := await reader.read(65_536):
            unread += data
            while (found := decode_frame(unread))[0]:
                size, frame = found
                unread = unread[size:]
                if isinstance(frame, Method):
                    self.received.append(frame.method)
                    if not self._peer.hangs:
                        self._handle(frame.channel_number, frame.method)

    def send(self, channel: int, method: object) -> None:
        """Send a method."""
        self._writer.write(Method(channel, method).marshal())

    def deliver(self, body: bytes, id: str, headers: dict[str, Any] | None = None) -> None:
        """Deliver a message to the consumer."""
        self._tag += 1
        channel, properties = self._channel, BasicProperties(message_id=id, headers=headers)
        deliver = spec.Basic.Deliver(self._consumer, self._tag, exchange="e", routing_key="k")
        self.send(channel, deliver)
        for frame in (Header(channel, len(body), properties), Body(channel, body)):
            self._writer.write(frame.marshal())

    def confirm(self, number: int) -> None:
        """Confirm all publications up to a number."""
        self.send(self._channel, spec.Basic.Ack(number, multiple=True))

    def acknowledged(self) -> list[int]:
        """Return the tags that the client has acknowledged."""
        return [each.delivery_tag for each in self.received if isinstance(each, spec.Basic.Ack)]

    def _handle(self, channel: int, method: Any) -> None:  # noqa: ANN401  # pika's
        answers = {
            spec.Connection.StartOk: spec.Connection.Tune(2047, MAX_FRAME, HEARTBEAT),
            spec.Connection.Open: spec.Connection.OpenOk(),
            spec.Connection.Close: spec.Connection.CloseOk(),
            spec.Channel.Open: spec.Channel.OpenOk(),
            spec.Channel.Close: spec.Channel.CloseOk(),
            spec.Basic.Qos: spec.Basic.QosOk(),
            spec.Confirm.Select: spec.Confirm.SelectOk(),
        }
        if (answer := answers.get(type(method))) is not None:
            self.send(channel, answer)
        self._channel = channel or self._channel
        if isinstance(method, spec.Basic.Consume):
            self._consumer, self.arguments = method.consumer_tag, method.arguments
            self.send(channel, spec.Basic.ConsumeOk(method.consumer_tag))
            self._peer.consumed(self)


@asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    """Run a peer while the context lasts."""
    one = Peer()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.url = f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/%2F"
    async with server:
        yield one
