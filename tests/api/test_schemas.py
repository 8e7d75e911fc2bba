"""The limits of a request: the OpenAPI document has those by which its message is read."""

from __future__ import annotations

import json
from math import inf, nextafter
from typing import Any, Final

import pytest

from api.schemas import ChargeIn
from grid import messages
from grid.errors import MalformedMessage

SHOWN: Final[dict[str, Any]] = ChargeIn.model_json_schema()["properties"]


def limits(field: str) -> dict[str, Any]:
    """Return what the document says of a field that may be null or left out."""
    shown: dict[str, Any] = SHOWN[field]
    return next((each for each in shown.get("anyOf", []) if each.get("type") != "null"), shown)


def reads(field: str, value: object) -> bool:
    """Return whether a message with this field is read as a request, written in either way."""
    fields = {"version": 1, "id": "a", "requested_at": 1, field: value}
    ours, others = json.dumps(fields, separators=(",", ":")), json.dumps(fields)
    assert _is_read(ours.encode()) == _is_read(others.encode())
    return _is_read(ours.encode())


def _is_read(body: bytes) -> bool:
    try:
        messages.decode(body)
    except MalformedMessage:
        return False
    return True


@pytest.mark.parametrize("field", ["requested_energy_kwh", "requested_power_kw"])
def test_request_is_read_up_to_the_documented_maximum_of_numbers(field: str) -> None:
    """No less and no more: what the api accepts no other service parks."""
    least, most = limits(field)["exclusiveMinimum"], limits(field)["maximum"]
    assert reads(field, most)
    assert reads(field, int(most))
    assert not reads(field, nextafter(most, inf))
    assert not reads(field, int(most) + 1)
    assert reads(field, nextafter(least, inf))
    assert not reads(field, least)


def test_request_is_read_up_to_the_documented_maximum_priority() -> None:
    """From the lowest to the highest."""
    least, most = limits("priority")["minimum"], limits("priority")["maximum"]
    assert [reads("priority", each) for each in (least - 1, least, most, most + 1)] == [
        False,
        True,
        True,
        False,
    ]


def test_request_is_read_up_to_the_documented_maximum_lengths() -> None:
    """A vehicle's name, and how many substations a request may name."""
    longest = limits("vehicle_id")["maxLength"]
    assert reads("vehicle_id", "é" * longest)
    assert not reads("vehicle_id", "é" * (longest + 1))
    most = limits("eligible_substations")["maxItems"]
    assert reads("eligible_substations", ["a"] * most)
    assert not reads("eligible_substations", ["a"] * (most + 1))
