"""An event's detail: JSON until somebody asks for it, and then what Python's ``json`` reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grid import events, parking
from grid.detail import Detail
from grid.errors import MalformedMessage
from grid.events import DEEPEST, Event, State
from tests.grid.strategies import THOROUGH, details, nested

MANY_DIGITS = b"9" * 5_000


def read(detail: bytes) -> Event:
    """Return the event with this detail, written as events are."""
    (event,) = events.decode(b'{"kind":"assigned","at":1,"job":"a","detail":%b}' % detail)
    return event


@THOROUGH
@given(details, st.text())
@example({"replays": 1}, "replays")
@example({"a": {"replays": 1}, "é\\": 2}, "é\\")
def test_detail_that_was_read_is_the_dict_that_was_written(
    detail: dict[str, Any], name: str
) -> None:
    """By name, in order, in comparisons, and when it is written again."""
    written = Event(State.ASSIGNED, 1.0, "a", detail=detail)
    (found,) = events.decode(events.encode([written]))
    assert found.detail.get(name, "none") == detail.get(name, "none")
    assert bool(found.detail) == bool(detail)
    assert found == written
    assert list(found.detail.items()) == list(detail.items())
    assert repr(found.detail) == repr(detail)
    assert events.encode([found]) == events.encode([written])


def test_detail_lookup_of_a_missing_name_does_not_decode_the_decision() -> None:
    """A dispatcher asks each of its own decisions how often its job was replayed."""
    event = read(b'{"policy":"least","candidates":[{"load":1.5}]}')
    assert isinstance(event.detail, Detail)
    assert parking.replays(event.detail) == 0
    assert event.detail.get("dispatcher") is None
    assert event.detail._fields is None
    assert event.detail["candidates"] == [{"load": 1.5}]
    assert event.detail._fields is not None


def test_detail_finds_a_name_written_with_escapes() -> None:
    """Another program may escape any character."""
    assert parking.replays(read(b'{"repl\\u0061ys":3}').detail) == 3
    assert parking.replays(read(b'{ "replays" : 3 }').detail) == 3


@pytest.mark.parametrize("detail", [b"{}", b"{ }", b'{"a":1,"a":{}}'])
def test_event_with_an_empty_detail_is_written_without_it(detail: bytes) -> None:
    """Every version has written it so."""
    again = events.encode([read(detail)])
    assert (b"detail" in again) == (detail not in (b"{}", b"{ }"))


@pytest.mark.parametrize(
    ("detail", "fields"),
    [
        (b'{"a":1e999}', {"a": float("inf")}),
        (b'{"a":"\\ud800"}', {"a": "\ud800"}),
        (b'{"a":-Infinity}', {"a": float("-inf")}),
        (b'{"a":%b}' % MANY_DIGITS, {}),
    ],
)
def test_event_reader_accepts_numbers_and_text_that_only_python_json_reads(
    detail: bytes, fields: dict[str, Any]
) -> None:
    """What Python's ``json`` takes is there; what even that does not take is left out."""
    assert dict(read(detail).detail) == fields


@pytest.mark.parametrize("detail", [b"[]", b"1", b'"{"', b"null", b'{"a":1},"detail":5'])
def test_event_with_a_detail_that_is_no_object_is_refused(detail: bytes) -> None:
    """Even where one that is an object stands before it."""
    with pytest.raises(MalformedMessage, match="detail"):
        read(detail)


def test_event_with_a_detail_nested_too_deep_is_refused() -> None:
    """Not when it is looked up: then the error could no longer be handled."""
    assert read(b'{"a":%b}' % nested(DEEPEST - 1))
    for depth in (DEEPEST, 500, 900, 2_000):
        with pytest.raises(MalformedMessage):
            read(b'{"a":%b}' % nested(depth))


def test_detail_keeps_the_bytes_that_were_written() -> None:
    """The record of a decision is packed as it came."""
    body = b'{"reason":"least","candidates":[1,2.0]}'
    detail = read(body).detail
    assert isinstance(detail, Detail)
    assert detail.json == body
    assert detail == json.loads(body)
