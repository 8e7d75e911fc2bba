"""What operators have set: merged alike by every reader, written and read back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grid.controls import (
    MAX_BLOCKS,
    MAX_BYTES,
    MAX_LIMIT,
    MAX_LIMIT_KW,
    Availability,
    Control,
    Controls,
    Message,
    PowerBlock,
    PowerLimits,
    check_length,
    decode,
    encode,
)
from grid.errors import InvalidField, MalformedMessage
from tests.grid.strategies import THOROUGH, bodies, control_messages, nested, set_controls

AVAILABLE, DRAINING = Availability.AVAILABLE, Availability.DRAINING
FIELDS = ["controls", "marker"]
GOOD: dict[str, Any] = {"substation": "s1", "state": "draining", "limit": 3, "version": 1}


def body(**fields: object) -> bytes:
    """Return the bytes of a message with one control that has these fields changed."""
    return json.dumps({"controls": [{**GOOD, **fields}]}).encode()


def merged(*messages: Message) -> tuple[Control, ...]:
    """Return what a reader of these messages knows."""
    known = Controls()
    for each in messages:
        known.merge(each.controls)
    return known.all()


@THOROUGH
@given(control_messages)
@example(Message())
def test_controls_message_is_decoded_as_it_was_encoded(message: Message) -> None:
    """Any message comes back as it was."""
    assert decode(encode(message)) == message


@THOROUGH
@given(bodies(FIELDS) | bodies(list(GOOD)).map(lambda each: b'{"controls":[' + each + b"]}"))
@example(b'{"controls":{}}')
@example(b'{"controls":""}')
@example(b'{"controls":[{"substation":"a","state":[],"limit":null,"version":1}]}')
def test_controls_decode_any_bytes_or_raise_malformed_message(content: bytes) -> None:
    """Whatever lies in the stream, its reader gets a message or ``MalformedMessage``."""
    try:
        found = decode(content)
    except MalformedMessage:
        return
    assert decode(encode(found)) == found


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("substation", [None, "", "a b", "a.b", "x" * 65, 1, []]),
        ("state", [None, "", "full", 1, [], {}, ["draining"]]),
        ("limit", [0, -1, 1.0, True, "3", [], MAX_LIMIT + 1]),
        ("version", [None, 0, -1, 1.0, True, "1", 10**400]),
    ],
)
def test_control_of_another_shape_is_refused(field: str, wrong: list[Any]) -> None:
    """A control of another shape is refused, since the dispatcher uses it unchecked."""
    assert decode(body())
    for value in wrong:
        with pytest.raises(MalformedMessage, match="not a message of controls"):
            decode(body(**{field: value}))


LIMITS: dict[str, Any] = {"blocks": [[1, 2, 3.5]], "source": "dso", "set_at": 0}


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("source", [None, "", "a\n", "x" * 65, 1]),
        ("set_at", [None, -1, "now", 1e300]),
        ("fallback_kw", [-1, "1", MAX_LIMIT_KW + 1]),
        (
            "blocks",
            [None, [[2, 2, 1]], [[2, 1, 1]], [[1, 3, 1], [2, 4, 1]], [[3, 4, 1], [1, 2, 1]]],
        ),
        ("blocks", [[[1, 2]], [[1, 2, -1]], [[-1, 2, 1]], [[1, 1e300, 1]], [[1, 2, 1]] * 201]),
    ],
)
def test_power_limits_of_another_shape_are_refused(field: str, wrong: list[Any]) -> None:
    """Blocks that overlap, or are out of order, among them."""
    assert decode(body(power_limits=LIMITS)).controls[0].power_limits == PowerLimits(
        (PowerBlock(1.0, 2.0, 3.5),), "dso", 0.0
    )
    for value in wrong:
        with pytest.raises(MalformedMessage, match="not a message of controls"):
            decode(body(power_limits={**LIMITS, field: value}))


def test_power_limits_message_has_its_documented_json() -> None:
    """A block is a list of start, end and kW; without limits nothing is written of them."""
    limits = PowerLimits((PowerBlock(1.5, 2.0, 20.0),), "dso", 1.0)
    message = Message((Control("s1", DRAINING, None, 2, limits),))
    text = (
        '"power_limits":{"blocks":[[1.5,2.0,20.0]],"source":"dso","set_at":1.0,"fallback_kw":null}'
    )
    assert f'"version":2,{text}}}' in encode(message).decode()


def test_controls_too_long_for_a_message_are_refused() -> None:
    """RabbitMQ would refuse the message, and close the channel."""
    blocks = tuple(PowerBlock(1.8e9 + n, 1.8e9 + n + 1, 20.125) for n in range(MAX_BLOCKS))
    limits = PowerLimits(blocks, "dso", 1.0)
    one = [Control(f"s{number}", power_limits=limits) for number in range(100)]
    check_length(one)
    with pytest.raises(InvalidField, match="send fewer blocks") as wrong:
        check_length(one * 10)
    assert wrong.value.field == "blocks"
    assert MAX_BYTES <= 8_388_608 / 2  # RabbitMQ's max_message_size


@pytest.mark.parametrize("field", GOOD)
def test_control_that_lacks_a_field_is_refused(field: str) -> None:
    """One that lacks a field is refused, and the whole message with it."""
    rest = {name: value for name, value in GOOD.items() if name != field}
    with pytest.raises(MalformedMessage):
        decode(json.dumps({"controls": [GOOD, rest]}).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"7", b"\xff", b"{}", b'{"controls":[],"marker":1}', nested(30_000)],
)
def test_controls_refuse_what_is_no_message(content: bytes) -> None:
    """What is not even an object with controls is refused the same way."""
    with pytest.raises(MalformedMessage, match="not a message of controls"):
        decode(content)


def test_controls_error_cuts_a_long_value() -> None:
    """A long value is cut where the error repeats it: it goes to a log."""
    with pytest.raises(MalformedMessage) as wrong:
        decode(body(state="x" * 10_000))
    assert len(str(wrong.value)) < 300


def test_controls_message_has_its_documented_json() -> None:
    """One JSON object; fields that a newer writer adds are ignored."""
    message = Message((Control("s1", DRAINING, None, 2),), "mark")
    text = '{"substation":"s1","state":"draining","limit":null,"version":2}'
    assert encode(message) == f'{{"controls":[{text}],"marker":"mark"}}'.encode()
    newer = json.dumps({"controls": [{**GOOD, "by": "depot"}], "at": 1}).encode()
    assert decode(newer) == Message((Control("s1", DRAINING, 3, 1),))


def test_controls_default_to_available_without_limit() -> None:
    """That holds for a substation that no operator has ever set."""
    assert Controls().get("s1") == Control("s1", AVAILABLE, None, 0)
    assert Controls().all() == ()


def test_controls_keep_the_newest_version_in_any_order() -> None:
    """However late the older messages come, and however often."""
    known = Controls()
    drained = known.changed(Control("s1", DRAINING, None))
    assert known.merge([drained]) == [drained]
    back = known.changed(Control("s1", AVAILABLE, None))
    assert known.merge([back]) == [back]
    assert known.merge([drained, back]) == []
    assert known.get("s1") == Control("s1", AVAILABLE, None, 2)
    assert known.all() == (back,)


def test_controls_of_different_substations_merge() -> None:
    """Neither message has the other's change; who reads both has both."""
    one, other = (
        Controls().changed(Control("s1", DRAINING, None)),
        Controls().changed(Control("s2", AVAILABLE, 3)),
    )
    assert merged(Message((one,)), Message((other,))) == (one, other)


def test_controls_of_equal_version_keep_the_earlier_in_the_stream() -> None:
    """Both have the same version, every reader sees them in the same order, and its writer, too."""
    one, other = (
        Controls().changed(Control("s1", DRAINING, None)),
        Controls().changed(Control("s1", AVAILABLE, 3)),
    )
    assert merged(Message((one,)), Message((other,))) == (one,)
    assert merged(Message((other,)), Message((one,))) == (other,)


@THOROUGH
@given(st.lists(control_messages, max_size=6), st.integers(0, 6))
def test_controls_one_full_message_replaces_all_before_it(
    messages: list[Message], after: int
) -> None:
    """So retention may drop what came before it, and telling it again changes nothing."""
    joined = Message(merged(*messages[:after]))
    rest = messages[after:]
    assert merged(joined, *rest) == merged(*messages[:after], joined, *rest) == merged(*messages)


@THOROUGH
@given(st.lists(set_controls, max_size=8))
def test_controls_merge_returns_exactly_what_changed(controls: list[Control]) -> None:
    """A reader that gets each change knows the same as one that asks for the state."""
    known, reported = Controls(), dict[str, Control]()
    for each in controls:
        for changed in known.merge([each]):
            assert reported.get(changed.substation) != changed
            reported[changed.substation] = changed
    assert tuple(reported[name] for name in sorted(reported)) == known.all()
