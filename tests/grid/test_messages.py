"""The charge request: what is valid, and that nothing else is accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from msgspec.structs import replace

from grid import messages
from grid.errors import InvalidField, MalformedMessage
from grid.messages import ChargeRequest, decode, shown
from tests.grid.strategies import THOROUGH, bodies, nested, requests

SMALLEST = ChargeRequest("job-1", 1_700_000_000.5)
LARGEST = ChargeRequest(
    "j" * 64,
    1_700_000_000.123456,
    vehicle_id="🚗" * messages.MAX_VEHICLE_ID,
    requested_energy_kwh=messages.MAX_ENERGY_KWH,
    requested_power_kw=messages.MAX_POWER_KW,
    departure_time=messages.MAX_UNIX_TIME,
    priority=messages.MAX_PRIORITY,
    eligible_substations=tuple(f"{number:064d}" for number in range(messages.MAX_ELIGIBLE)),
    tenant="t" * 64,
    max_wait_seconds=messages.MAX_WAIT_SECONDS,
    earliest_start=messages.MAX_UNIX_TIME,
    reserve=True,
)
FIELDS = list(json.loads(LARGEST.encode()))


def body(**fields: object) -> bytes:
    """Return the body of a request with these fields changed."""
    return json.dumps({"version": 1, "id": "job-1", "requested_at": 1.5, **fields}).encode()


@THOROUGH
@given(requests)
@example(SMALLEST)
@example(LARGEST)
def test_request_is_decoded_as_it_was_encoded(request: ChargeRequest) -> None:
    """Every request that may exist reads back as itself: what the api accepts is never parked."""
    assert decode(request.encode()) == request


@THOROUGH
@given(bodies(FIELDS))
def test_request_decodes_any_bytes_or_raises_malformed_message(content: bytes) -> None:
    """Whatever lies in the queue, the reader gets a request or ``MalformedMessage``."""
    try:
        request = decode(content)
    except MalformedMessage:
        return
    assert decode(request.encode()) == request


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b'{"version": 1, "id": "\xe4"}', "not JSON"),
        (nested(30_000), "not JSON"),
        (b'{"version": ' + b"9" * 5_000 + b"}", "not JSON"),
        (b"null", "not a JSON object, got None"),
        (b"[]", "not a JSON object"),
        (b'"' + b"x" * messages.MAX_BODY_BYTES + b'"', "the limit is"),
        (b"{}", "version is None"),
        (body(version=2), "version is 2"),
        (body(version=True), "version is True"),
        (body(version="1"), "version is '1'"),
        (body(id=None), "id is missing"),
        (body(requested_at=None), "requested_at is missing"),
    ],
)
def test_request_error_says_what_is_wrong(content: bytes, problem: str) -> None:
    """A parked message's reason says what was wrong with it."""
    with pytest.raises(MalformedMessage, match=problem):
        decode(content)


def test_request_of_any_nesting_depth_is_read_or_refused() -> None:
    """No depth is accepted by the JSON reader but too deep to be shown in an error."""
    for depth in range(1, 1_100):
        with pytest.raises(MalformedMessage):
            decode(b'{"version":1,"id":"a","requested_at":1,"vehicle_id":%s}' % nested(depth))


def test_request_with_a_repeated_key_uses_the_value_checked() -> None:
    """A repeated field cannot bypass the checks: the value that is read is the one checked."""
    start = b'{"version": 1, "id": "a", "requested_at": 1, "priority": '
    assert decode(start + b'77, "priority": 3}').priority == 3
    with pytest.raises(MalformedMessage, match="priority"):
        decode(start + b'3, "priority": 77}')


def test_request_with_unknown_fields_is_accepted() -> None:
    """A newer service may add a field without an older one parking its requests."""
    assert decode(body(colour="green")) == ChargeRequest("job-1", 1.5)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("id", ["a", "A.b_c~d-9", "j" * 64], ["", "-a", "j" * 65, "a b", "a/b", "ä", "a\n", 7]),
        ("requested_at", [1, 0.5, messages.MAX_UNIX_TIME], [0, -1, 2.6e11, "1", True, 10**400]),
        ("vehicle_id", ["E", "WVWZZZ 1Ä🚗", "v" * 64], ["", "v" * 65, "a\nb", "\ud800", 5, []]),
        ("requested_energy_kwh", [1e-9, 10_000], [0, -3, 10_000.1, "5", True, {}]),
        ("requested_power_kw", [1e-9, 4_000], [0, -3, 4_000.1, "5", False, []]),
        ("departure_time", [1, messages.MAX_UNIX_TIME], [0, -1, 1e300, "2026-01-01", True]),
        ("tenant", ["a", "A.b_c~d-9", "t" * 64], ["", "-a", "t" * 65, "a b", "ä", "a\n", 7]),
        ("max_wait_seconds", [1e-9, 30, messages.MAX_WAIT_SECONDS], [0, -1, 1e9, "30", True]),
        ("earliest_start", [1, messages.MAX_UNIX_TIME], [0, -1, 1e300, "2026-01-01", True]),
        ("reserve", [True, False], [1, 0, "true", [], {}]),
        ("priority", [0, 9], [-1, 10, 1.0, "1", True, 10**30]),
        (
            "eligible_substations",
            [[], ["substation1"], ["s" * 64, "A_b-9"]],
            ["substation1", [""], ["a.b"], ["s" * 65], [1], [["a"]], {"a": 1}, ["a"] * 1_001],
        ),
    ],
)
def test_request_fields_are_held_to_their_limits(
    field: str, good: list[Any], bad: list[Any]
) -> None:
    """A value within the limits is accepted unchanged; others are refused, naming the field."""
    for value in good:
        taken = getattr(decode(body(**{field: value})), field)
        assert (list(taken) if isinstance(taken, tuple) else taken) == value
    for value in bad:
        with pytest.raises(MalformedMessage, match=f"^{field}: must be .*, got "):
            decode(body(**{field: value}))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "field",
    [
        "requested_at",
        "requested_energy_kwh",
        "requested_power_kw",
        "departure_time",
        "max_wait_seconds",
        "earliest_start",
    ],
)
def test_request_refuses_nan_and_infinity(field: str, number: str) -> None:
    """Python's JSON accepts numbers beyond the standard, which must not become a time or power."""
    content = body(**{field: "HERE"}).replace(b'"HERE"', number.encode())
    with pytest.raises(MalformedMessage, match=field):
        decode(content)


def test_request_error_names_field_limit_and_value() -> None:
    """The error names the field, the limit and the value, cut if long."""
    with pytest.raises(InvalidField) as wrong:
        replace(SMALLEST, vehicle_id="x" * 1_000)
    assert wrong.value.field == "vehicle_id"
    assert wrong.value.problem.startswith("must be 1 to 64 printable characters, got 'xxx")
    assert len(str(wrong.value)) < 200


@pytest.mark.parametrize(
    ("name", "job", "substation"),
    [
        ("substation1", True, True),
        ("0", True, True),
        ("a_b-c", True, True),
        ("a.b~c", True, False),
        ("x" * 64, True, True),
        ("x" * 65, False, False),
        ("", False, False),
        ("_a", False, False),
        (".", False, False),
        ("a\n", False, False),
        ("a#", False, False),
        ("a*", False, False),
        ("é", False, False),
        ("１", False, False),
        (None, False, False),
        (1, False, False),
    ],
)
def test_names_of_jobs_and_substations_are_held_to_their_form(
    name: object,
    job: bool,  # noqa: FBT001
    substation: bool,  # noqa: FBT001
) -> None:
    """A job's id is safe in an address, and a substation's in a queue's name and routing key."""
    assert messages.valid_job_id(name) is job
    assert messages.valid_substation_id(name) is substation


@pytest.mark.parametrize(("value", "text"), [("a\nb", "'a\\nb'"), (None, "None"), (1.5, "1.5")])
def test_request_error_quotes_values_on_one_line(value: object, text: str) -> None:
    """A value in an error message cannot break its line."""
    assert shown(value) == text


def test_request_limits_are_in_the_order_of_its_fields() -> None:
    """They are checked by their place."""
    assert tuple(messages._LIMITS) == ChargeRequest.__struct_fields__  # noqa: SLF001


@pytest.mark.parametrize(
    ("fields", "waits_from", "expires_at"),
    [
        ({}, 100, None),
        ({"max_wait_seconds": 5}, 100, 105),
        ({"max_wait_seconds": 5, "earliest_start": 200}, 200, 205),
        ({"max_wait_seconds": 5, "earliest_start": 50}, 100, 105),
        ({"max_wait_seconds": 5, "earliest_start": 200, "departure_time": 203}, 200, 203),
    ],
)
def test_request_waits_from_its_earliest_start(
    fields: dict[str, Any], waits_from: float, expires_at: float | None
) -> None:
    """The time before is no wait, so that its longest wait does not end before it may begin."""
    request = ChargeRequest("a", 100, **fields)
    assert (request.waits_from, request.expires_at) == (waits_from, expires_at)
