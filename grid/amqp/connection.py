"""pika's AMQP connection over asyncio's own transport.

pika leaves the transport to an adapter: the ``_adapter_…`` methods below, which its connection
calls, and ``_on_stream_connected``, ``_on_stream_terminated`` and ``_process_frame``, which the
adapter calls. pika's own adapter for asyncio makes one system call for each frame it sends, and
reads 4 KiB at a time. This one sends whatever one turn of the loop has written at once, and reads
as much as there is. See docs/decisions/0039.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Self

from pika.channel import Channel
from pika.connection import Connection as PikaConnection
from pika.connection import Parameters
from pika.exceptions import InvalidFrameError, StreamLostError
from pika.frame import decode_frame

from grid.amqp.wire import FRAME_OVERHEAD

NEXT_ADDRESS_SECONDS: Final = 1.0  # without an answer, before a name's next address is tried too

_PREFIX: Final = struct.Struct(">BHL")  # a frame's type, channel and payload's size
_READ_BYTES: Final = 64 * 1024  # that are read at once, at least
_PROTOCOL: Final = ord("A")  # begins "AMQP…", with which RabbitMQ refuses another protocol
_PROTOCOL_BYTES: Final = 8


class Connection(PikaConnection, asyncio.BufferedProtocol):  # type: ignore[misc]  # pika has no types
    """One connection to RabbitMQ. Make it with ``connect``."""

    def __init__(
        self,
        parameters: Parameters,
        opened: asyncio.Future[None],
        on_closed: Callable[[BaseException], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._buffer = bytearray(parameters.frame_max + _READ_BYTES)
        self._filled = 0  # bytes at the buffer's start that are no whole frame yet
        self._failure: BaseException | None = None
        super().__init__(
            parameters,
            on_open_callback=lambda _: _settle(opened, None),
            on_open_error_callback=lambda _, error: _settle(opened, error),
            on_close_callback=lambda _, error: on_closed(error),
            internal_connection_workflow=False,
        )

    @classmethod
    async def connect(
        cls, parameters: Parameters, on_closed: Callable[[BaseException], None]
    ) -> Self:
        """Return an open connection; ``on_closed`` is called once, with the reason, when it ends.

        Raises:
            OSError: there is no connection to that address.
            AMQPError: RabbitMQ refused it, or what answers there is not RabbitMQ.
        """
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        options = parameters.ssl_options
        _, connection = await loop.create_connection(
            partial(cls, parameters, opened, on_closed),
            parameters.host,
            parameters.port,
            ssl=options.context if options else None,
            server_hostname=options.server_hostname if options else None,
            happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
        )
        try:
            await opened
        except BaseException as error:
            connection.abort(error)
            raise
        return connection

    def send(self, frames: bytes) -> None:
        """Send whole frames that are packed already, with whatever else this turn of the loop."""
        self.bytes_sent += len(frames)
        self._adapter_emit_data(frames)

    def abort(self, why: BaseException) -> None:
        """End the connection at once, without a word to RabbitMQ."""
        if self._transport is not None:
            self._failure = self._failure or why
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to speak AMQP."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._on_stream_connected()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever uses the connection why it ended."""
        self._transport = None
        self._unsent.clear()
        error = self._failure or exc
        self._on_stream_terminated(error and StreamLostError(f"Stream connection lost: {error!r}"))

    def eof_received(self) -> bool:
        """Close the connection that RabbitMQ has closed."""
        self._failure = self._failure or ConnectionResetError("closed by RabbitMQ")
        return False

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # a guess, of no use here
        """Return where the next bytes go: behind those that are no whole frame yet."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Process every whole frame there is; whatever is wrong with one ends the connection."""
        self.bytes_received += nbytes
        filled = self._filled + nbytes
        try:
            read = self._process(filled)
        except Exception as error:  # noqa: BLE001  # asyncio would take it for our own mistake
            self.abort(error)
            read = filled
        self._buffer[: filled - read] = self._buffer[read:filled]
        self._filled = filled - read

    def _process(self, filled: int) -> int:
        """Process the frames in so many bytes; return how many bytes those are."""
        buffer, at = self._buffer, 0
        while filled - at >= FRAME_OVERHEAD:
            kind, _, size = _PREFIX.unpack_from(buffer, at)
            whole = _PROTOCOL_BYTES if kind == _PROTOCOL else size + FRAME_OVERHEAD
            if whole > self.params.frame_max:
                raise InvalidFrameError(f"a frame of {whole} bytes, more than was agreed on")
            if whole > filled - at:
                break
            _, frame = decode_frame(bytes(buffer[at : at + whole]))
            at += whole
            self._process_frame(frame)
        return at

    # What pika calls.

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _adapter_disconnect_stream(self) -> None:
        assert self._transport is not None  # noqa: S101  # pika says so once, while there is one
        self._transport.abort()

    def _adapter_call_later(self, delay: float, callback: Callable[[], Any]) -> object:
        return self._loop.call_later(delay, callback)

    def _adapter_remove_timeout(self, timeout_id: object) -> None:
        assert isinstance(timeout_id, asyncio.TimerHandle)  # noqa: S101
        timeout_id.cancel()

    def _adapter_add_callback_threadsafe(self, callback: Callable[..., Any]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def _adapter_connect_stream(self) -> None:
        raise NotImplementedError("a connection is made by connect()")


def send(channel: Channel, frames: bytes) -> None:
    """Send frames on the connection of a channel that ``Connection.connect`` has made."""
    connection = channel.connection
    assert isinstance(connection, Connection)  # noqa: S101
    connection.send(frames)


def _settle(opened: asyncio.Future[None], error: Exception | None) -> None:
    if opened.done():  # whoever waited has given up
        return
    if error is None:
        opened.set_result(None)
    else:
        opened.set_exception(error)
