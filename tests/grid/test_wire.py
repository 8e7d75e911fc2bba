"""The bytes of all that travels: those of ``json.dumps``, and read alike in both ways."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import to_builtins

from grid import controls, events, messages, wire
from grid.controls import Availability, Control, Message
from grid.errors import MalformedMessage
from grid.events import Counts, Event, State
from grid.messages import ChargeRequest
from tests.grid.strategies import (
    THOROUGH,
    all_events,
    bodies,
    control_messages,
    json_values,
    requests,
)

HALF = "\ud800"  # of a character
EVENT_FIELDS = [
    "kind",
    "at",
    "job",
    "substation",
    "attempt",
    "reason",
    "counts",
    "energy_kwh",
    "ends_at",
    "detail",
]
REQUEST_FIELDS = [
    "id",
    "requested_at",
    "vehicle_id",
    "requested_energy_kwh",
    "requested_power_kw",
    "departure_time",
    "priority",
    "eligible_substations",
    "tenant",
    "max_wait_seconds",
    "earliest_start",
    "reserve",
]
# what `json` reads and msgspec does not: a field of that value, which is ignored, has `json` read
# all of it; and so does a space before a request
UNREAD = b'{"unknown":NaN,'


def dumped(value: object) -> bytes:
    """Return the bytes that every version before wrote."""
    return json.dumps(value, separators=(",", ":")).encode()


def dumped_event(event: Event) -> bytes:
    """Return an event as every version before wrote it: without what is empty."""
    fields = {name: getattr(event, name) for name in EVENT_FIELDS}
    return dumped({n: value for n, value in fields.items() if value or n in ("kind", "at")})


def is_huge(value: object) -> bool:
    """Return whether a number is spelled otherwise than by ``json.dumps``."""
    return isinstance(value, float) and abs(value) >= 1e16


def outcome(decode: Callable[[bytes], object], body: bytes) -> object:
    """Return what a reader makes of bytes; ``None`` where it refuses them."""
    try:
        return repr(decode(body))  # which tells 1 from 1.0
    except MalformedMessage:
        return None


@THOROUGH
@given(requests)
@example(ChargeRequest("a", 1.5, "é\U0001f697", 0.00001, 1e-7, 5e-324))
@example(ChargeRequest("1e5-1", 1, "e-5", 1, 1, 1, eligible_substations=("site-4",)))
def test_request_has_the_bytes_that_json_dumps_writes(request: ChargeRequest) -> None:
    """Text, numbers, order and what is left out: an older reader is given what it always was."""
    fields = {name: getattr(request, name) for name in REQUEST_FIELDS}
    there = {n: value for n, value in fields.items() if value or n == "priority"}
    assert request.encode() == dumped({"version": 1, **there})
    assert json.loads(dumped(request.fields())) == json.loads(dumped(there))


@THOROUGH
@given(st.lists(all_events, max_size=4))
@example([Event(State.QUEUED, 1, "a", detail={"a": 1e16, "b": "é", "c": 1e-5})])
@example([Event("parked", 0.00001, "a", reason=f"é\x7f\u2028{HALF}", detail={HALF: [HALF]})])
@example([Event("parked", 1e-7, "a", detail={"a": 1e-300}), Event("marker", 5.0, "b")])
@example([Event(State.CHARGING, 1.0, "a", counts=Counts(0, 1, 2, 1e15, 1e-9))])
@example([Event(State.QUEUED, 1, "a", detail={"state": Availability.DRAINING, "a": (1, None)})])
def test_events_have_the_bytes_that_json_dumps_writes(several: list[Event]) -> None:
    """One by one, and many in one message; numbers that no message holds are equal as numbers."""
    written, before = events.encode(several), b"\n".join(map(dumped_event, several))
    if any(is_huge(value) for event in several for value in event.detail.values()):
        assert [*map(json.loads, written.split(b"\n"))] == [*map(json.loads, before.split(b"\n"))]
    else:
        assert written == before


@THOROUGH
@given(control_messages)
@example(Message((Control("s1", Availability.DRAINING, None, 2),), f"é{HALF}"))
def test_controls_have_the_bytes_that_json_dumps_writes(message: Message) -> None:
    """A control is written in full, with its power limits where it has any; and a mark."""
    rows = [
        {"substation": c.substation, "state": c.state, "limit": c.limit, "version": c.version}
        | ({} if c.power_limits is None else {"power_limits": to_builtins(c.power_limits)})
        for c in message.controls
    ]
    mark = {"marker": message.marker} if message.marker else {}
    assert controls.encode(message) == dumped({"controls": rows, **mark})


@THOROUGH
@given(st.text(st.characters()) | st.integers() | st.floats(-1e15, 1e15))
def test_encoder_writes_each_text_and_number_as_json_dumps(value: object) -> None:
    """Lone surrogates and the smallest numbers included."""
    assert wire.encode([value]) == dumped([value])
    assert wire.encode({"a": value}) == dumped({"a": value})


def test_encoder_writes_numpy_numbers_as_json_dumps() -> None:
    """A decision computes with arrays, and their numbers may get into its record."""
    assert wire.encode({"load": np.float64(2.5)}) == b'{"load":2.5}'
    assert wire.encode({HALF: np.float64(2.5)}) == b'{"\\ud800":2.5}'
    with pytest.raises(TypeError, match="a value of type object cannot be written as JSON"):
        wire.encode({"load": object()})


@pytest.mark.parametrize("reason", ["", "é", HALF])
def test_encoder_does_not_leak_memory(reason: str) -> None:
    """A service writes millions of events: msgspec kept an iterator for each, or all of them."""
    several = [Event(State.PARKED, 1.5, "a", reason=reason, detail={"a": [1.5]})] * 3
    many = 2_000
    events.encode(iter(several))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(many):
            events.encode(iter(several))
            events.decode(events.encode(tuple(several)))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20 * many  # an iterator has 48 bytes; other threads allocate as well


@pytest.mark.parametrize(
    ("value", "body"), [(1e16, b"1e16"), (1e300, b"1e300"), (nan, b"null"), (-inf, b"null")]
)
def test_encoder_writes_extreme_numbers_so_that_json_reads_them(value: float, body: bytes) -> None:
    """No limit allows such large numbers, and JSON has no NaN: only this test writes them."""
    assert wire.encode(value) == body
    assert json.loads(body) in (value, None)


@THOROUGH
@given(bodies(REQUEST_FIELDS) | requests.map(ChargeRequest.encode))
@example(b'{"version":1,"id":"a","requested_at":1,"priority":77,"priority":3}')
@example(b'{"version":1,"id":"a","requested_at":1,"priority":null}')
@example(b'{"version":1,"id":"a","requested_at":1,"x":"\xff"}')
@example(b'{"version":1,"version":2,"id":"a","requested_at":1}')
@example(b'{"version":1,"id":"a","requested_at":1,"ver\\u0073ion":1.0}')
def test_request_decoders_agree_on_what_is_valid(body: bytes) -> None:
    """By msgspec, and by Python's ``json`` where msgspec does not read it."""
    began = body if body.startswith(b'{"version":1,') else b'{"version":1,' + body[1:]
    assert outcome(messages.decode, began) == outcome(messages.decode, b" " + began)


@THOROUGH
@given(bodies(EVENT_FIELDS) | all_events.map(lambda event: events.encode([event])))
@example(b'{"kind":"queued","at":1,"job":"a","job":""}')
@example(b'{"kind":"queued","at":1,"job":"a\\n"}')
@example(b'{"kind":"queued","at":1,"job":"a","attempt":1e2}')
@example(b'{"kind":"queued","at":1,"job":"a","counts":[1,2,3,4,5.5,null]}')
@example(b'{"kind":"queued","at":1,"job":"a","x":"\xed\xa0\x80"}')
@example(b'{"kind":"queued","at":1,"job":"a","x":"\xff"}')
@example(b'{"kind":"queued","at":1,"job":"a","\\ud800":1}')
def test_event_decoders_agree_on_what_is_valid(body: bytes) -> None:
    """By msgspec, and by Python's ``json`` where msgspec does not read it."""
    if body.startswith(b"{") and b"\n" not in body and b"\r" not in body:
        assert outcome(events.decode, body) == outcome(events.decode, UNREAD + body[1:])


@THOROUGH
@given(
    bodies(["controls", "marker"])
    | control_messages.map(controls.encode)
    | bodies(["substation", "state", "limit", "version"]).map(b'{"controls":[%b]}'.__mod__)
)
@example(b'{"controls":[],"\\ud800":1}')
@example(b'{"controls":[{"\\ud800":1,"substation":"a","state":"draining","limit":1,"version":1}]}')
def test_control_decoders_agree_on_what_is_valid(body: bytes) -> None:
    """By msgspec, and by Python's ``json`` where msgspec does not read it."""
    if body.startswith(b"{"):
        assert outcome(controls.decode, body) == outcome(controls.decode, UNREAD + body[1:])


@THOROUGH
@given(st.dictionaries(st.text(st.characters()), json_values))
def test_detail_is_read_as_json_reads_it(detail: dict[str, Any]) -> None:
    """Whatever an older version wrote there: NaN, half characters, whole numbers of any size."""
    body = dumped({"kind": "queued", "at": 1, "job": "a", "detail": detail})
    (event,) = events.decode(body)
    assert repr(event.detail) == repr(json.loads(body)["detail"])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"attempt": "1"}, "attempt is '1': Expected `int`, got `str`"),
        ({"counts": [1, 1, 1, 1, -5]}, "counts[4] is -5: Expected `int` >= 0"),
        ({"kind": "chargd"}, "kind is 'chargd': Invalid enum value"),
        ({"kind": "x\n" * 900}, "kind is 'x\\nx"),
        ({"job": "a b"}, "job is 'a b': Expected `str` matching regex"),
        ({"job": ""}, "job is missing"),
        ({"detail": [1]}, "detail is [1]: Expected `object`, got `array`"),
    ],
)
def test_event_error_names_field_and_value(fields: dict[str, Any], problem: str) -> None:
    """The log of a service shows what was written, and what was expected."""
    body = json.dumps({"kind": "charging", "at": 1.5, "job": "a", **fields}).encode()
    with pytest.raises(MalformedMessage) as wrong:
        events.decode(body)
    assert str(wrong.value).startswith("not an event: b'{")
    assert problem in str(wrong.value)
    assert len(str(wrong.value)) < 350
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"limit": 0}, "controls[0].limit is 0: Expected `int` >= 1"),
        ({"state": "full"}, "controls[0].state is 'full': Invalid enum value"),
        ({"substation": "a b"}, "controls[0].substation is 'a b': Expected `str` matching"),
    ],
)
def test_control_error_names_field_and_value(row: dict[str, Any], problem: str) -> None:
    """The place within the message is named as well: there may be very many controls."""
    good = {"substation": "s1", "state": "draining", "limit": 3, "version": 1}
    with pytest.raises(MalformedMessage) as wrong:
        controls.decode(json.dumps({"controls": [{**good, **row}]}).encode())
    assert problem in str(wrong.value)
