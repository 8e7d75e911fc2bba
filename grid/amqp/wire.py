"""The frames of AMQP 0-9-1 that this project sends and receives once or more for each message.

They are the bytes that pika makes of the same values, packed at once where pika makes an object of
each frame. Everything rarer is left to pika. Source: the AMQP 0-9-1 specification, 2.3.5 and 4.2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from pika import data
from pika.exceptions import ShortStringTooLong
from pika.spec import BasicProperties

FRAME_OVERHEAD: Final = 8  # type, channel and size before the payload, the end marker after it

_METHOD, _HEADER, _BODY = 1, 2, 3
_END: Final = b"\xce"
_BASIC: Final = 60
_FRAME: Final = struct.Struct(">BHL")
_CONTENT: Final = struct.Struct(">BHLHHQH")  # a header's frame, class, weight, body size, flags
_CONTENT_LENGTH: Final = _CONTENT.size - _FRAME.size
_ACK: Final = struct.Struct(">BHLHHQBc")
_ACK_LENGTH: Final = _ACK.size - FRAME_OVERHEAD
_ACK_METHOD, _NACK_METHOD = 80, 120
_MULTIPLE, _REQUEUE = 1, 2
_PERSISTENT: Final = b"\x02"
_LONGEST: Final = 255  # bytes of a short string
_KNOWN_TARGETS: Final = 4096


def ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """Return the frame that acknowledges one delivery, or with ``multiple`` all up to it."""
    return _ACK.pack(_METHOD, channel, _ACK_LENGTH, _BASIC, _ACK_METHOD, tag, multiple, _END)


def nack(channel: int, tag: int, *, requeue: bool) -> bytes:
    """Return the frame that gives one delivery back to its queue, or refuses it for good."""
    bits = _REQUEUE if requeue else 0
    return _ACK.pack(_METHOD, channel, _ACK_LENGTH, _BASIC, _NACK_METHOD, tag, bits, _END)


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

    ``priority`` 0 is none. ``frame_most`` is the size of a frame that was agreed on, in bytes.

    Raises:
        pika.exceptions.ShortStringTooLong: a name or the id has over 255 bytes.
        pika.exceptions.UnsupportedAMQPFieldException: a header's value has no form in AMQP.
    """
    size = len(body)
    flags = BasicProperties.FLAG_DELIVERY_MODE | BasicProperties.FLAG_MESSAGE_ID
    properties: list[bytes] = []
    if headers:
        flags |= BasicProperties.FLAG_HEADERS
        data.encode_table(properties, dict(headers))
    properties.append(_PERSISTENT)
    if priority:
        flags |= BasicProperties.FLAG_PRIORITY
        properties.append(priority.to_bytes(1, "big"))
    properties.append(_short(id))
    packed = b"".join(properties)
    length = _CONTENT_LENGTH + len(packed)
    header = _CONTENT.pack(_HEADER, channel, length, _BASIC, 0, size, flags)
    method = _publish(channel, exchange, key)
    if size <= (most := frame_most - FRAME_OVERHEAD):  # as nearly every message
        frame = _FRAME.pack(_BODY, channel, size)
        return b"".join(
            (method, header, packed, _END, frame, body, _END)
            if body
            else (method, header, packed, _END)
        )
    return b"".join((method, header, packed, _END, *_bodies(channel, body, most)))


def _bodies(channel: int, body: bytes, most: int) -> Iterator[bytes]:
    for start in range(0, len(body), most):
        part = body[start : start + most]
        yield _FRAME.pack(_BODY, channel, len(part)) + part + _END


@lru_cache(_KNOWN_TARGETS)
def _publish(channel: int, exchange: str, key: str) -> bytes:
    """Return the frame of the method ``basic.publish``, mandatory."""
    method = struct.pack(">HHH", _BASIC, 40, 0) + _short(exchange) + _short(key) + b"\x01"
    return _FRAME.pack(_METHOD, channel, len(method)) + method + _END


def _short(text: str) -> bytes:
    if len(encoded := text.encode()) > _LONGEST:
        raise ShortStringTooLong(encoded)
    return bytes((len(encoded),)) + encoded
