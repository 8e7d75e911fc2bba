"""pika's AMQP connection over asyncio's own transport.

pika leaves the transport to an adapter: the ``_adapter_…`` methods below, which its connection
calls, and ``_on_stream_connected``, ``_on_stream_terminated`` and ``_process_frame``, which the
adapter calls. pika's own adapter for asyncio makes one system call for each frame it sends, and
reads 4 KiB at a time. This one sends at once whatever one turn of the loop has written, and reads
as much as there is. Deliveries and confirms, which come once or more for each message, are passed
to their callbacks without an object for each of their frames; all else is left to pika.
See docs/decisions/0039-amqp-over-asyncios-transport.md.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Self

from msgspec import Struct, field
from pika.channel import Channel
from pika.connection import Connection as PikaConnection
from pika.connection import Parameters
from pika.exceptions import InvalidFrameError, StreamLostError
from pika.frame import decode_frame

from grid.amqp import frames
from grid.amqp.frames import Confirm, Content, Envelope

NEXT_ADDRESS_SECONDS: Final = 1.0  # before a name's next address is tried as well
VERDICT_SECONDS: Final = 0.05  # for RabbitMQ to refuse a certificate, behind the handshake of TLS

_PREFIX: Final = struct.Struct(">BHL")  # a frame's type, channel and payload's size
_METHOD: Final = struct.Struct(">HH")  # a method's class and number
_BASIC: Final = 60
_READ_BYTES: Final = 64 * 1024  # that are read at once, at least
_ROUNDS: Final = 3  # of callbacks before a flush, since they may add others: a turn must end
_END: Final = frames.END[0]
_PROTOCOL: Final = ord("A")  # begins "AMQP…", with which RabbitMQ answers another protocol
_PROTOCOL_BYTES: Final = 8

OnDelivery = Callable[[Envelope, Content, bytes], None]
OnConfirm = Callable[[Confirm, bool], None]  # and whether RabbitMQ has accepted the message


class _Arriving(Struct, gc=False):
    """A message whose frames have not all arrived; ``left`` is how many bytes of it are missing."""

    envelope: Envelope
    content: Content | None = None
    body: list[bytes] = field(default_factory=list)
    left: int = 0


class Connection(PikaConnection, asyncio.BufferedProtocol):  # type: ignore[misc]  # pika has no types
    """One connection to RabbitMQ. Open it with ``connect``."""

    def __init__(
        self,
        parameters: Parameters,
        opened: asyncio.Future[None],
        on_closed: Callable[[BaseException], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._before_flush: list[Callable[[], object]] = []
        self._flush_due = False
        self._buffer = memoryview(bytearray(parameters.frame_max + _READ_BYTES))
        self._filled = 0  # bytes at the buffer's start that are no whole frame yet
        self._failure: BaseException | None = None
        self._on_delivery: dict[int, tuple[Channel, OnDelivery]] = {}  # by the channel's number
        self._on_confirm: dict[int, tuple[Channel, OnConfirm]] = {}
        self._arriving: dict[int, _Arriving] = {}
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
        """Send whole frames that are already packed, together with what else this turn sends."""
        self.bytes_sent += len(frames)
        self._adapter_emit_data(frames)

    def before_flush(self, call: Callable[[], object]) -> None:
        """Call back soon, just before what was written until then is sent.

        What the callback writes is sent with it: a second turn of the loop would cost a system
        call. The callback must not raise.
        """
        self._before_flush.append(call)
        self._flush_soon()

    def deliver_to(self, channel: Channel, on_delivery: OnDelivery) -> None:
        """Pass every message that RabbitMQ delivers on a channel to ``on_delivery``.

        Those that come while the channel is being closed are dropped: the caller may have another
        channel by then, on which their tags mean other messages.
        """
        self._on_delivery[channel.channel_number] = channel, on_delivery
        channel.add_on_close_callback(partial(_forget, self._on_delivery))
        channel.add_on_close_callback(partial(_forget, self._arriving))

    def confirm_to(self, channel: Channel, on_confirm: OnConfirm) -> None:
        """Pass every confirm and nack of what is published on a channel to ``on_confirm``.

        Those that come while the channel is being closed are dropped, as in ``deliver_to``.
        """
        self._on_confirm[channel.channel_number] = channel, on_confirm
        channel.add_on_close_callback(partial(_forget, self._on_confirm))

    def abort(self, why: BaseException) -> None:
        """End the connection at once, without closing it towards RabbitMQ."""
        if self._transport is not None:
            self._failure = self._failure or why
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start speaking AMQP; over TLS, only once RabbitMQ has had time to refuse the certificate.

        It refuses one after the handshake, and closes the connection: whoever writes to it then
        gets a reset, and never reads the reason.
        """
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        if transport.get_extra_info("ssl_object") is None:
            self._begin()
        else:
            self._loop.call_later(VERDICT_SECONDS, self._begin)

    def _begin(self) -> None:
        if self._transport is not None:
            self._on_stream_connected()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the reason of the end to pika, which calls ``on_closed``."""
        self._transport = None
        self._unsent.clear()
        error = self._failure or exc
        if error is None and self._error is None:  # given up in the turn in which it was made
            error = ConnectionAbortedError("given up")
        self._on_stream_terminated(error and StreamLostError(f"Stream connection lost: {error!r}"))

    def eof_received(self) -> bool:
        """End the connection that RabbitMQ has closed: nothing more that is sent would be read."""
        self.abort(ConnectionResetError("closed by RabbitMQ"))
        return False

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # a guess, of no use here
        """Return where the next bytes go: behind an incomplete frame."""
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Process every whole frame there is; an error in one ends the connection."""
        self.bytes_received += nbytes
        filled = self._filled + nbytes
        try:
            read = self._process(filled)
        except Exception as error:  # noqa: BLE001  # asyncio would take it for our error
            self.abort(error)
            read = filled
        self._buffer[: filled - read] = self._buffer[read:filled]
        self._filled = filled - read

    def _process(self, filled: int) -> int:
        """Process the frames in so many bytes; return how many bytes those are."""
        buffer, at = self._buffer, 0
        while filled - at >= frames.FRAME_OVERHEAD:
            kind, channel, size = _PREFIX.unpack_from(buffer, at)
            whole = _PROTOCOL_BYTES if kind == _PROTOCOL else size + frames.FRAME_OVERHEAD
            if whole > self.params.frame_max:
                raise InvalidFrameError(f"a frame of {whole} bytes, more than was agreed on")
            if whole > filled - at:
                break
            end = at + whole
            payload = buffer[at + _PREFIX.size : end - 1].tobytes()
            if buffer[end - 1] != _END or not self._process_quickly(kind, channel, payload):
                self._process_frame(decode_frame(buffer[at:end].tobytes())[1])
            at = end
        return at

    def _process_quickly(self, kind: int, channel: int, payload: bytes) -> bool:
        """Process a frame of a delivery or a confirm that has a callback, or return False."""
        if kind == frames.METHOD:
            return self._process_method(channel, payload)
        message = self._arriving.get(channel)
        if message is None:
            return False
        if message.content is None:
            message.content = frames.content(payload)
            message.left = message.content.size
        else:
            message.body.append(payload)
            message.left -= len(payload)
        if message.left <= 0:
            self._arrive(channel, message.envelope, message.content, message.body)
        return True

    def _process_method(self, channel: int, payload: bytes) -> bool:
        of_class, method = _METHOD.unpack_from(payload)
        if of_class != _BASIC:
            return False
        if method == frames.BASIC_DELIVER and channel in self._on_delivery:
            self._arriving[channel] = _Arriving(frames.envelope(payload[_METHOD.size :]))
            return True
        asked = self._on_confirm.get(channel)
        if asked is None or method not in {frames.BASIC_ACK, frames.BASIC_NACK}:
            return False
        if asked[0].is_open:
            asked[1](frames.confirm(payload[_METHOD.size :]), method == frames.BASIC_ACK)
        return True

    def _arrive(
        self, channel: int, envelope: Envelope, content: Content, body: Sequence[bytes]
    ) -> None:
        """Deliver a message that is complete."""
        del self._arriving[channel]
        of, on_delivery = self._on_delivery[channel]
        if of.is_open:
            on_delivery(envelope, content, body[0] if len(body) == 1 else b"".join(body))

    # What pika calls.

    def _adapter_emit_data(self, data: bytes) -> None:
        self._unsent.append(data)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        for _ in range(_ROUNDS):
            calls, self._before_flush = self._before_flush, []
            for call in calls:
                call()
        self._flush_due = False
        if self._before_flush:
            self._flush_soon()
        if not self._unsent:
            return
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


def connection_of(channel: Channel) -> Connection:
    """Return the connection of a channel that was opened on a ``Connection``."""
    connection = channel.connection
    assert isinstance(connection, Connection)  # noqa: S101
    return connection


def _forget(by_channel: dict[int, Any], channel: Channel, _why: Exception) -> None:
    """Forget what belongs to a channel that is closed: its number may soon be used again."""
    by_channel.pop(channel.channel_number, None)


def left_to_the_connection(*_: object) -> None:
    """Do nothing: pika wants a callback for what ``deliver_to`` or ``confirm_to`` handle."""


def _settle(opened: asyncio.Future[None], error: Exception | None) -> None:
    if opened.done():  # the caller has given up
        return
    if error is None:
        opened.set_result(None)
    else:
        opened.set_exception(error)
