"""The event log's events: what is written is read back, and nothing invalid is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grid.errors import MalformedMessage
from grid.events import MARKER, SUBSTATIONS, Counts, Event, State, decode, encode
from tests.grid.strategies import THOROUGH, all_events, bodies, nested

FIELDS = ["kind", "at", "job", "substation", "attempt", "reason", "counts", "detail"]
GOOD: dict[str, Any] = {"kind": "charging", "at": 1.5, "job": "job-1"}


def line(**fields: object) -> bytes:
    """Return the bytes of an event with these fields changed."""
    return json.dumps({**GOOD, **fields}).encode()


@THOROUGH
@given(st.lists(all_events, max_size=5))
@example([])
@example([Event("queued", 1.0, "a", reason="a\nb\r\u2028c\ud800")])
@example([Event("charging", 1.0, "a", counts=Counts(0, 0, 0, 0, 0))])
def test_events_are_decoded_as_they_were_encoded(several: list[Event]) -> None:
    """Events are read back unchanged and in order, whatever their texts contain."""
    assert decode(encode(several)) == several


@THOROUGH
@given(bodies(FIELDS) | st.lists(bodies(FIELDS), max_size=3).map(b"\n".join))
@example(b'{"kind":[],"at":1,"job":"a"}')
@example(b'{"kind":{},"at":1,"job":"a"}')
def test_events_decode_any_bytes_or_raise_malformed_message(content: bytes) -> None:
    """Whatever lies in the stream, its reader gets events or ``MalformedMessage``."""
    try:
        found = decode(content)
    except MalformedMessage:
        return
    assert encode(decode(encode(found))) == encode(found)


@THOROUGH
@given(st.lists(all_events, min_size=1, max_size=3), st.sampled_from([b"{}", b"", b"nonsense"]))
def test_events_message_with_one_wrong_line_is_refused(several: list[Event], wrong: bytes) -> None:
    """Half a message never counts as the whole."""
    with pytest.raises(MalformedMessage, match="not an event"):
        decode(encode(several) + b"\n" + wrong + b"\n")


def test_events_message_with_two_events_on_a_line_is_refused() -> None:
    """Nor if another event has a line break within, so that events and lines are equally many."""
    broken = line().replace(b": 1.5", b":\n1.5")
    with pytest.raises(MalformedMessage, match="not an event"):
        decode(line() + line() + b"\n" + broken)


def test_event_is_one_line_with_only_the_fields_set() -> None:
    """The encoding: one line each, with only the fields that are set."""
    body = encode([Event(State.QUEUED, 1.5, job="a"), Event(MARKER, 2, job="b", attempt=1)])
    assert body.splitlines() == [
        b'{"kind":"queued","at":1.5,"job":"a"}',
        b'{"kind":"marker","at":2,"job":"b","attempt":1}',
    ]


def test_event_without_a_job_is_accepted_for_snapshots_only() -> None:
    """A snapshot of all substations concerns no job; every other event does."""
    assert decode(b'{"kind":"substations","at":1}') == [Event(SUBSTATIONS, 1)]
    for wrong in (b'{"kind":"marker","at":1}', b'{"kind":"substations","at":1,"job":[]}'):
        with pytest.raises(MalformedMessage):
            decode(wrong)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("kind", [None, "", "charged", 1, [], {}, ["queued"]]),
        ("at", [None, "1", True, [], -1, 1e12, 10**400, float("nan"), float("inf")]),
        ("job", [None, "", "a b", "x" * 65, 1, []]),
        ("substation", [1, [], {}, True]),
        ("attempt", ["1", 1.0, True, []]),
        ("reason", [1, [], True]),
        ("counts", [1, "abcde", [], [1, 1, 1, 1], [1] * 8, ["1"] * 5, [True] * 5, {}]),
        (
            "counts",
            [[-1, 1, 1, 1, 1], [1, 1e16, 1, 1, 1], [1] * 5 + [-1], [1] * 5 + [""]],
        ),
        ("counts", [[1] * 6 + [-1], [1] * 6 + [None]]),
        ("counts", [[float("nan"), 1, 1, 1, 1], [1, float("inf"), 1, 1, 1], [10**400] * 5]),
        ("detail", [1, "a", [], True]),
    ],
)
def test_event_with_a_field_of_another_shape_is_refused(field: str, wrong: list[Any]) -> None:
    """An event of another shape is refused: its readers count and date with it unchecked."""
    assert decode(line())
    for value in wrong:
        with pytest.raises(MalformedMessage, match="not an event"):
            decode(line(**{field: value}))


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b'"a"',
        b"7",
        b"\xff\xfe",
        nested(30_000),
        b'{"kind":' + b"9" * 5_000 + b"}",
        b'{"kind":"queued","at":1,"job":"a","detail":{"a":' + nested(30_000) + b"}}",
        b'{"kind":"queued","at":1,"job":"a","counts":' + nested(900) + b"}",
    ],
)
def test_event_that_is_no_object_is_refused(content: bytes) -> None:
    """What is not even an object of events' fields is refused the same way."""
    with pytest.raises(MalformedMessage, match="not an event"):
        decode(content)


def test_event_error_cuts_a_long_line() -> None:
    """A long line is cut where the error repeats it: it goes to a log."""
    with pytest.raises(MalformedMessage) as wrong:
        decode(line(reason="x" * 10_000, kind="charged"))
    assert len(str(wrong.value)) < 300


def test_event_with_an_unknown_field_is_accepted() -> None:
    """A newer writer may add a field, since services are upgraded one by one."""
    assert decode(b'{"kind":"queued","at":1,"job":"a","colour":"red"}') == [
        Event(State.QUEUED, 1, job="a")
    ]
