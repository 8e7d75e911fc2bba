"""The frames of AMQP 0-9-1 that this project sends and receives once or more for each message.

They are the bytes that pika makes of the same values, packed in one step where pika makes an object
of each frame. Everything rarer is left to pika. Source: the AMQP 0-9-1 specification, 2.3.5 and
4.2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from msgspec import Struct
from pika import data
from pika.exceptions import ShortStringTooLong
from pika.spec import BasicProperties

FRAME_OVERHEAD: Final = 8  # type, channel and size before the payload, the end marker after it
METHOD, HEADER, BODY = 1, 2, 3  # types of frames
BASIC_DELIVER, BASIC_ACK, BASIC_NACK = 60, 80, 120

END: Final = b"\xce"
_BASIC: Final = 60
_FRAME: Final = struct.Struct(">BHL")
_CONTENT: Final = struct.Struct(">BHLHHQH")  # a header's frame, class, weight, body size, flags
_CONTENT_LENGTH: Final = _CONTENT.size - _FRAME.size
_ACK: Final = struct.Struct(">BHLHHQBc")
_ACK_LENGTH: Final = _ACK.size - FRAME_OVERHEAD
_MULTIPLE, _REQUEUE = 1, 2
_PERSISTENT: Final = b"\x02"
_LONGEST: Final = 255  # bytes of a short string
_KNOWN_TARGETS: Final = 4096
_KNOWN_NAMES: Final = 64  # of headers that are kept packed; the project writes fewer
_TAG: Final = struct.Struct(">QB")
_HEADER_START: Final = struct.Struct(">HHQH")  # class, weight, body size, flags
_SKIPPED_BEFORE_HEADERS: Final = (
    BasicProperties.FLAG_CONTENT_TYPE,
    BasicProperties.FLAG_CONTENT_ENCODING,
)
_SKIPPED_OCTETS: Final = (BasicProperties.FLAG_DELIVERY_MODE, BasicProperties.FLAG_PRIORITY)
_TEXT: Final = struct.Struct(">cL")  # the type of a long string in a table, and its length
_TABLE: Final = struct.Struct(">L")
_SKIPPED_AFTER_HEADERS: Final = (
    BasicProperties.FLAG_CORRELATION_ID,
    BasicProperties.FLAG_REPLY_TO,
    BasicProperties.FLAG_EXPIRATION,
)


class _Layout(NamedTuple):
    """How many short texts and octets stand before the headers and the id of a message."""

    texts_before: int
    has_headers: bool
    octets: int
    texts_after: int
    has_id: bool


class Envelope(Struct, frozen=True, gc=False):
    """What ``basic.deliver`` says of the message that follows."""

    tag: int
    redelivered: bool
    exchange: str
    key: str


class Content(Struct, frozen=True, gc=False):
    """What the header of a message says of it; ``size`` is that of its body, in bytes."""

    size: int
    id: str | None
    headers: Mapping[str, Any]


class Confirm(Struct, frozen=True, gc=False):
    """RabbitMQ's answer to the publication ``number``, with ``multiple`` to all up to it."""

    number: int
    multiple: bool


def ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """Return the frame that acknowledges one delivery, or with ``multiple`` all up to it."""
    return _ACK.pack(METHOD, channel, _ACK_LENGTH, _BASIC, BASIC_ACK, tag, multiple, END)


def nack(channel: int, tag: int, *, requeue: bool) -> bytes:
    """Return the frame that requeues one delivery, or rejects it."""
    bits = _REQUEUE if requeue else 0
    return _ACK.pack(METHOD, channel, _ACK_LENGTH, _BASIC, BASIC_NACK, tag, bits, END)


def publication(
    channel: int,
    exchange: str,
    key: str,
    *,
    id: str,
    headers: Mapping[str, Any],
    priority: int,
    body: bytes,
    frame_most: int,
) -> bytes:
    """Return the frames of a persistent, mandatory message.

    ``priority`` 0 is none. ``frame_most`` is the negotiated size of a frame, in bytes.

    Raises:
        pika.exceptions.ShortStringTooLong: the exchange, the key, the id or a header's name has
            over 255 bytes.
        pika.exceptions.UnsupportedAMQPFieldException: a header's value has no form in AMQP.
    """
    size = len(body)
    flags = BasicProperties.FLAG_DELIVERY_MODE | BasicProperties.FLAG_MESSAGE_ID
    properties: list[bytes] = []
    if headers:
        flags |= BasicProperties.FLAG_HEADERS
        properties.append(_table(headers))
    properties.append(_PERSISTENT)
    if priority:
        flags |= BasicProperties.FLAG_PRIORITY
        properties.append(priority.to_bytes(1, "big"))
    properties.append(_short(id))
    packed = b"".join(properties)
    length = _CONTENT_LENGTH + len(packed)
    header = _CONTENT.pack(HEADER, channel, length, _BASIC, 0, size, flags)
    method = _publish(channel, exchange, key)
    if size <= (most := frame_most - FRAME_OVERHEAD):  # as is nearly every message
        frame = _FRAME.pack(BODY, channel, size)
        return b"".join(
            (method, header, packed, END, frame, body, END)
            if body
            else (method, header, packed, END)
        )
    return b"".join((method, header, packed, END, *_bodies(channel, body, most)))


def _table(headers: Mapping[str, Any]) -> bytes:
    """Return a table of headers; of texts alone, as nearly all have, without pika."""
    parts: list[bytes] = []
    if any(type(value) is not str for value in headers.values()):
        data.encode_table(parts, dict(headers))
        return b"".join(parts)
    for name, value in headers.items():
        text = value.encode()
        parts += (_name(name), _TEXT.pack(b"S", len(text)), text)
    packed = b"".join(parts)
    return _TABLE.pack(len(packed)) + packed


def _bodies(channel: int, body: bytes, most: int) -> Iterator[bytes]:
    for start in range(0, len(body), most):
        part = body[start : start + most]
        yield _FRAME.pack(BODY, channel, len(part)) + part + END


@lru_cache(_KNOWN_TARGETS)
def _publish(channel: int, exchange: str, key: str) -> bytes:
    """Return the frame of the method ``basic.publish``, mandatory."""
    method = struct.pack(">HHH", _BASIC, 40, 0) + _short(exchange) + _short(key) + b"\x01"
    return _FRAME.pack(METHOD, channel, len(method)) + method + END


def _short(text: str) -> bytes:
    if len(encoded := text.encode()) > _LONGEST:
        raise ShortStringTooLong(encoded)
    return bytes((len(encoded),)) + encoded


@lru_cache(_KNOWN_NAMES)
def _name(text: str) -> bytes:
    """Return the name of a header, packed."""
    return _short(text)


def envelope(arguments: bytes) -> Envelope:
    """Return what the arguments of ``basic.deliver`` say."""
    at = 1 + arguments[0]  # behind the consumer's tag
    tag, bits = _TAG.unpack_from(arguments, at)
    return Envelope(tag, bits & 1 == 1, *_target(arguments[at + _TAG.size :]))


@lru_cache(_KNOWN_TARGETS)
def _target(packed: bytes) -> tuple[str, str]:
    """Return the exchange and the key that stand behind each other."""
    exchange, at = data.decode_short_string(packed, 0)
    key, _ = data.decode_short_string(packed, at)
    return exchange, key


def content(payload: bytes) -> Content:
    """Return what the payload of a header frame says."""
    _, _, size, flags = _HEADER_START.unpack_from(payload)
    at = _HEADER_START.size
    layout = _layout(flags)
    for _ in range(layout.texts_before):
        at += 1 + payload[at]
    headers: Mapping[str, Any] = {}
    if layout.has_headers:
        headers, at = _read_table(payload, at)
    if not layout.has_id:
        return Content(size, None, headers)
    at += layout.octets
    for _ in range(layout.texts_after):
        at += 1 + payload[at]
    return Content(size, _text(payload, at), headers)


def _text(payload: bytes, at: int) -> Any:  # noqa: ANN401
    """Return a short text; what is not UTF-8 stays bytes, as in pika."""
    text = payload[at + 1 : at + 1 + payload[at]]
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def _read_table(payload: bytes, at: int) -> tuple[Mapping[str, Any], int]:
    """Return a table, and where it ends. One that holds anything but texts is left to pika."""
    (size,) = _TABLE.unpack_from(payload, at)
    first, end = at, at + _TABLE.size + size
    at += _TABLE.size
    found: dict[str, Any] = {}
    try:
        while at < end:
            name_end = at + 1 + payload[at]
            kind, length = _TEXT.unpack_from(payload, name_end)
            value_at = name_end + _TEXT.size
            if kind != b"S":
                break
            name, at = payload[at + 1 : name_end], value_at + length
            found[name.decode()] = payload[value_at:at].decode()
        else:
            return found, at
    except (UnicodeDecodeError, struct.error, IndexError):
        pass  # to pika as well, which has its own way with them
    headers: Mapping[str, Any]
    headers, at = data.decode_table(payload, first)
    return headers, at


@lru_cache(maxsize=64)  # nearly all messages have the same flags
def _layout(flags: int) -> _Layout:
    """Return what stands before a message's id, by the flags of its properties."""

    def number(of: Iterable[int]) -> int:
        return sum(bool(flags & flag) for flag in of)

    return _Layout(
        number(_SKIPPED_BEFORE_HEADERS),
        bool(flags & BasicProperties.FLAG_HEADERS),
        number(_SKIPPED_OCTETS),
        number(_SKIPPED_AFTER_HEADERS),
        bool(flags & BasicProperties.FLAG_MESSAGE_ID),
    )


def confirm(arguments: bytes) -> Confirm:
    """Return what the arguments of RabbitMQ's ``basic.ack`` or ``basic.nack`` say."""
    number, bits = _TAG.unpack_from(arguments)
    return Confirm(number, bits & _MULTIPLE == _MULTIPLE)
