"""The frames packed here are, byte for byte, those that pika makes of the same values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties, DeliveryMode, spec
from pika.exceptions import ShortStringTooLong
from pika.frame import Body, Header, Method, decode_frame

from grid.amqp import frames
from tests.grid.strategies import THOROUGH

MAX_FRAME = 131_072

channels = st.integers(1, 2047)
tags = st.integers(1, 2**63)
short_texts = st.text(max_size=60)
values = st.recursive(
    st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.binary() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short_texts, inner, max_size=3),
    max_leaves=5,
)
tables = st.dictionaries(short_texts, values, max_size=4)


def by_pika(
    *, channel: int, exchange: str, key: str, properties: BasicProperties, body: bytes, most: int
) -> bytes:
    """Return the frames that pika sends for a mandatory message."""
    method = spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True)
    room = most - frames.FRAME_OVERHEAD
    parts = (body[at : at + room] for at in range(0, len(body), room))
    first = [Method(channel, method), Header(channel, len(body), properties)]
    return b"".join(each.marshal() for each in (*first, *(Body(channel, part) for part in parts)))


@THOROUGH
@given(
    channel=channels,
    exchange=short_texts,
    key=short_texts,
    id=short_texts,
    headers=tables,
    priority=st.integers(0, 255),
    body=st.binary(max_size=300),
    frame_most=st.sampled_from([12, 100, MAX_FRAME]),
)
def test_frames_pack_a_publication_as_pika_does(
    *,
    channel: int,
    exchange: str,
    key: str,
    id: str,
    headers: dict[str, Any],
    priority: int,
    body: bytes,
    frame_most: int,
) -> None:
    properties = BasicProperties(
        message_id=id,
        delivery_mode=DeliveryMode.Persistent,
        headers=headers or None,
        priority=priority or None,
    )
    packed = frames.publication(
        channel,
        exchange,
        key,
        id=id,
        headers=headers,
        priority=priority,
        body=body,
        frame_most=frame_most,
    )
    assert packed == by_pika(
        channel=channel,
        exchange=exchange,
        key=key,
        properties=properties,
        body=body,
        most=frame_most,
    )


@THOROUGH
@given(channel=channels, tag=tags, multiple=st.booleans())
def test_frames_pack_an_acknowledgement_as_pika_does(
    channel: int,
    tag: int,
    multiple: bool,  # noqa: FBT001
) -> None:
    expected = Method(channel, spec.Basic.Ack(tag, multiple)).marshal()
    assert frames.ack(channel, tag, multiple=multiple) == expected


@THOROUGH
@given(channel=channels, tag=tags, requeue=st.booleans())
def test_frames_pack_a_reject_as_pika_does(channel: int, tag: int, requeue: bool) -> None:  # noqa: FBT001
    expected = Method(channel, spec.Basic.Nack(tag, requeue=requeue)).marshal()
    assert frames.nack(channel, tag, requeue=requeue) == expected


@THOROUGH
@given(
    consumer=short_texts,
    tag=tags,
    redelivered=st.booleans(),
    exchange=short_texts,
    key=short_texts,
)
def test_frames_read_a_delivery_as_pika_does(
    *, consumer: str, tag: int, redelivered: bool, exchange: str, key: str
) -> None:
    method = spec.Basic.Deliver(consumer, tag, redelivered, exchange, key)
    expected = frames.Envelope(tag, redelivered, exchange, key)
    assert frames.envelope(b"".join(method.encode())) == expected


@THOROUGH
@given(
    size=st.integers(0, 2**63),
    headers=st.none() | tables,
    octets=st.fixed_dictionaries(
        {},
        optional={
            "delivery_mode": st.sampled_from([1, 2]),
            "priority": st.integers(0, 255),
            "timestamp": st.integers(0, 2**63),
        },
    ),
    texts=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            (
                "content_type",
                "content_encoding",
                "correlation_id",
                "reply_to",
                "expiration",
                "message_id",
                "type",
                "user_id",
                "app_id",
                "cluster_id",
            ),
            short_texts,
        ),
    ),
)
def test_frames_read_message_properties_as_pika_does(
    *,
    size: int,
    headers: dict[str, Any] | None,
    octets: dict[str, int],
    texts: dict[str, str],
) -> None:
    frame = Header(1, size, BasicProperties(headers=headers, **octets, **texts)).marshal()
    _, read = decode_frame(frame)
    properties = read.properties
    expected = frames.Content(read.body_size, properties.message_id, properties.headers or {})
    assert frames.content(frame[7:-1]) == expected


@pytest.mark.parametrize("headers", [{"name": "text"}, {"a": "", "name": "text"}, {"name": 1}])
@pytest.mark.parametrize("text", [b"name", b"text", b"job1"])
def test_frames_read_texts_that_are_no_utf8_as_pika_does(
    headers: dict[str, Any], text: bytes
) -> None:
    """They stay bytes: names, values and the id alike."""
    properties = BasicProperties(headers=headers, message_id="job1")
    frame = Header(1, 0, properties).marshal().replace(text, b"\xff\xfe\xfd\xfc")
    _, read = decode_frame(frame)
    expected = frames.Content(0, read.properties.message_id, read.properties.headers)
    assert frames.content(frame[7:-1]) == expected


@THOROUGH
@given(tag=tags, multiple=st.booleans())
def test_frames_read_a_confirm_as_pika_does(tag: int, multiple: bool) -> None:  # noqa: FBT001
    for method in (spec.Basic.Ack(tag, multiple), spec.Basic.Nack(tag, multiple)):
        assert frames.confirm(b"".join(method.encode())) == frames.Confirm(tag, multiple)


@pytest.mark.parametrize("name", ["exchange", "key", "id"])
def test_frames_refuse_a_name_over_255_bytes(name: str) -> None:
    """As pika does: a truncated name could be that of another queue."""
    names = {"exchange": "e", "key": "k", "id": "i", name: "ä" * 128}
    pack: Callable[..., bytes] = frames.publication
    with pytest.raises(ShortStringTooLong):
        pack(1, **names, headers={}, priority=0, body=b"", frame_most=MAX_FRAME)


def test_frames_refuse_a_headers_name_over_255_bytes() -> None:
    """As pika does, and the second time as well."""
    headers = {"ä" * 128: "x"}
    for _ in range(2):
        with pytest.raises(ShortStringTooLong):
            frames.publication(
                1, "e", "k", id="i", headers=headers, priority=0, body=b"", frame_most=MAX_FRAME
            )
