"""pika's connection over asyncio's transport: how it sends and reads, and what it needs of pika."""

from __future__ import annotations

import asyncio
import inspect
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pika.frame
import pytest
from pika import BasicProperties, ConnectionParameters, spec
from pika.channel import Channel
from pika.connection import Connection as PikaConnection
from pika.exceptions import AMQPError, IncompatibleProtocolError
from pika.frame import Heartbeat

from grid.amqp.connection import Connection
from grid.amqp.frames import Confirm

# What ``grid.amqp.connection`` overrides or calls though pika does not document it.
PRIVATE = {
    "_adapter_add_callback_threadsafe": ["self", "callback"],
    "_adapter_call_later": ["self", "delay", "callback"],
    "_adapter_connect_stream": ["self"],
    "_adapter_disconnect_stream": ["self"],
    "_adapter_emit_data": ["self", "data"],
    "_adapter_remove_timeout": ["self", "timeout_id"],
    "_on_stream_connected": ["self"],
    "_on_stream_terminated": ["self", "error"],
    "_process_frame": ["self", "frame_value"],
}
HEARTBEAT = Heartbeat().marshal()


class Recorded(asyncio.Transport):
    """A transport that records each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Record what is written."""
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        """Return whether it was aborted."""
        return self.aborted

    def abort(self) -> None:
        """Note that it was aborted."""
        self.aborted = True


@pytest.fixture
async def connection() -> Connection:
    """Return a connection whose transport is recorded."""
    one = Connection(ConnectionParameters(), asyncio.Future(), lambda _: None)
    one.connection_made(Recorded())
    return one


def recorded(connection: Connection) -> Recorded:
    """Return the transport of a connection."""
    transport = connection._transport  # noqa: SLF001
    assert isinstance(transport, Recorded)
    return transport


def bring(connection: Connection, data: bytes) -> None:
    """Have the transport bring bytes, as asyncio does."""
    while data:
        room = connection.get_buffer(-1)
        part, data = data[: len(room)], data[len(room) :]
        room[: len(part)] = part
        room.release()
        connection.buffer_updated(len(part))


@pytest.mark.parametrize("name", sorted(PRIVATE))
def test_pika_has_what_the_connection_overrides_or_calls(name: str) -> None:
    """A new version of pika that moves one of these needs another look at grid.amqp.connection."""
    assert list(inspect.signature(getattr(PikaConnection, name)).parameters) == PRIVATE[name]


def test_the_connection_has_all_that_pika_leaves_to_an_adapter() -> None:
    """A new version of pika may leave more methods to its adapters."""
    assert PikaConnection.__abstractmethods__ <= set(PRIVATE)
    assert not inspect.isabstract(Connection)


def test_pika_reads_one_frame_of_bytes_as_the_connection_expects() -> None:
    """It returns how many bytes it has read, and the frame."""
    size, frame = pika.frame.decode_frame(HEARTBEAT)
    assert size == len(HEARTBEAT)
    assert isinstance(frame, Heartbeat)


async def test_connection_writes_all_frames_of_one_loop_turn_at_once(
    connection: Connection,
) -> None:
    await asyncio.sleep(0)
    written = len(recorded(connection).writes)
    for _ in range(5):
        connection.send(HEARTBEAT)
    assert len(recorded(connection).writes) == written
    await asyncio.sleep(0)
    assert recorded(connection).writes[written:] == [HEARTBEAT * 5]


async def test_connection_sends_what_was_written_before_a_flush_with_it(
    connection: Connection,
) -> None:
    """Each additional turn or write is an additional system call."""
    await asyncio.sleep(0)
    written = len(recorded(connection).writes)
    connection.before_flush(lambda: connection.send(HEARTBEAT))
    connection.before_flush(lambda: connection.before_flush(lambda: connection.send(HEARTBEAT)))
    connection.send(HEARTBEAT)
    await asyncio.sleep(0)
    assert recorded(connection).writes[written:] == [HEARTBEAT * 3]
    await asyncio.sleep(0)
    assert len(recorded(connection).writes) == written + 1


async def test_connection_does_not_block_the_loop_when_flushes_are_requested_without_end(
    connection: Connection,
) -> None:
    """A mistake in one part costs time, but does not stop the service."""
    called = 0

    def again() -> None:
        nonlocal called
        called += 1
        connection.before_flush(again)

    again()
    await asyncio.sleep(0)
    first = called
    await asyncio.sleep(0)
    assert 1 < first < called


async def test_connection_flushes_again_after_it_was_lost(connection: Connection) -> None:
    """Code that waits for the flush must learn that nothing can be sent."""
    called: list[int] = []
    connection.before_flush(lambda: called.append(1))
    connection.connection_lost(None)
    await asyncio.sleep(0)
    connection.before_flush(lambda: called.append(2))
    await asyncio.sleep(0)
    assert called == [1, 2]


@pytest.mark.parametrize("step", [1, 3, 7, 8, 9, 100_000])
async def test_connection_reads_frames_split_at_any_byte(connection: Connection, step: int) -> None:
    data = HEARTBEAT * (200 if step < 100 else 40_000)
    for at in range(0, len(data), step):
        bring(connection, data[at : at + step])
    assert connection.frames_received == len(data) // len(HEARTBEAT)
    assert connection.bytes_received == len(data)
    assert not recorded(connection).aborted


async def test_connection_reads_a_frame_of_the_negotiated_maximum(connection: Connection) -> None:
    seen: list[object] = []
    connection._process_frame = seen.append  # noqa: SLF001
    body = pika.frame.Body(1, b"x" * (connection.params.frame_max - 8)).marshal()
    bring(connection, HEARTBEAT + body[:100_000])
    bring(connection, body[100_000:] + HEARTBEAT)
    assert [type(each).__name__ for each in seen] == ["Heartbeat", "Body", "Heartbeat"]


def delivered(channel: int, tag: int, body: bytes, most: int) -> bytes:
    """Return the frames of a delivery, its body in parts of so many bytes."""
    frames: list[pika.frame.Frame] = [
        pika.frame.Method(channel, spec.Basic.Deliver("c", tag, exchange="e", routing_key="k")),
        pika.frame.Header(channel, len(body), BasicProperties(message_id=f"m{tag}")),
        *(pika.frame.Body(channel, body[at : at + most]) for at in range(0, len(body), most)),
    ]
    return b"".join(each.marshal() for each in frames)


@pytest.fixture
def channel(connection: Connection) -> Channel:
    """Return a channel of the connection."""
    one = Channel(connection, 1, lambda _: None)
    one._set_state(Channel.OPEN)  # noqa: SLF001
    return one


async def test_connection_delivers_messages_whose_frames_are_split_at_any_byte(
    connection: Connection, channel: Channel
) -> None:
    got: list[tuple[int, str | None, bytes]] = []
    connection.deliver_to(channel, lambda e, c, body: got.append((e.tag, c.id, body)))
    bodies = [b"", b"x", b"0123456789" * 3]
    data = b"".join(delivered(1, tag, body, 10) for tag, body in enumerate(bodies, 1))
    for step in (1, 5, len(data)):
        got.clear()
        for at in range(0, len(data), step):
            bring(connection, data[at : at + step])
        assert got == [(tag, f"m{tag}", body) for tag, body in enumerate(bodies, 1)]


@pytest.mark.parametrize("which", range(3))
async def test_connection_ends_over_a_message_with_a_frame_without_its_end_marker(
    connection: Connection, channel: Channel, which: int
) -> None:
    """Its size may be wrong, and then so is all that follows."""
    got: list[object] = []
    connection.deliver_to(channel, lambda *message: got.append(message))
    frames = split(delivered(1, 1, b"x", 10))
    frames[which] = frames[which][:-1] + b"\0"
    bring(connection, b"".join(frames))
    assert recorded(connection).aborted
    assert got == []


async def test_connection_delivers_a_message_that_is_longer_than_announced(
    connection: Connection, channel: Channel
) -> None:
    """As pika does; those that follow are delivered as well."""
    got: list[bytes] = []
    connection.deliver_to(channel, lambda _envelope, _content, body: got.append(body))
    method, header, _ = split(delivered(1, 1, b"x", 10))
    bring(connection, method + header + pika.frame.Body(1, b"xyz").marshal())
    bring(connection, delivered(1, 2, b"next", 10))
    assert got == [b"xyz", b"next"]


def split(data: bytes) -> list[bytes]:
    """Return the frames of some bytes."""
    found = []
    while data:
        size, _ = pika.frame.decode_frame(data)
        found.append(data[:size])
        data = data[size:]
    return found


async def test_connection_ignores_frames_for_a_closed_channel(
    connection: Connection, channel: Channel
) -> None:
    got: list[object] = []
    connection.deliver_to(channel, lambda *message: got.append(message))
    connection.confirm_to(channel, lambda *answer: got.append(answer))
    channel._on_close_meta(ConnectionError("gone"))  # noqa: SLF001
    bring(connection, delivered(1, 1, b"x", 10))
    bring(connection, pika.frame.Method(1, spec.Basic.Ack(1)).marshal())
    assert got == []


async def test_connection_tells_confirms_from_nacks(
    connection: Connection, channel: Channel
) -> None:
    got: list[tuple[Confirm, bool]] = []
    connection.confirm_to(channel, lambda confirm, accepted: got.append((confirm, accepted)))
    for method in (spec.Basic.Ack(1), spec.Basic.Nack(3, multiple=True)):
        bring(connection, pika.frame.Method(1, method).marshal())
    assert got == [(Confirm(1, multiple=False), True), (Confirm(3, multiple=True), False)]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        HEARTBEAT[:-1] + b"\x00",
        struct.pack(">BHL", 9, 0, 0) + b"\xce",
        struct.pack(">BHLL", 1, 0, 4, 0xFFFFFFFF) + b"\xce",
    ],
    ids=["no AMQP", "no end", "an unknown frame", "an unknown method"],
)
async def test_connection_ends_when_the_peer_does_not_speak_amqp(
    connection: Connection, data: bytes
) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    bring(connection, data)
    assert recorded(connection).aborted
    connection.connection_lost(None)
    assert connection.is_closed
    await asyncio.sleep(0)
    assert errors == []


@asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[ConnectionParameters]:
    """Listen on a port where each client is answered these bytes, and nothing more."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield ConnectionParameters("127.0.0.1", server.sockets[0].getsockname()[1])


@pytest.mark.parametrize("data", [b"", b"AMQP\x00\x00\x09\x00", b"SSH-2.0-OpenSSH_9.2\r\n"])
async def test_connection_refuses_a_peer_that_is_not_rabbitmq(data: bytes) -> None:
    async with answering(data) as parameters:
        with pytest.raises(IncompatibleProtocolError):
            await asyncio.wait_for(Connection.connect(parameters, lambda _: None), 5.0)


async def test_connection_error_names_a_port_where_nobody_listens() -> None:
    with pytest.raises(OSError, match=r"Connect call failed \('127\.0\.0\.1', 1\)"):
        await Connection.connect(ConnectionParameters("127.0.0.1", 1), lambda _: None)


async def test_connection_cancelled_while_it_opens_leaves_no_error() -> None:
    """Nothing is left behind, and the loop's error handler is not called."""
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    silent = await asyncio.start_server(lambda *_: asyncio.sleep(5), "127.0.0.1", 0)
    parameters = ConnectionParameters("127.0.0.1", silent.sockets[0].getsockname()[1])
    with pytest.raises((TimeoutError, AMQPError)):
        await asyncio.wait_for(Connection.connect(parameters, lambda _: None), 0.2)
    await asyncio.sleep(0.05)
    silent.close()
    assert errors == []
