"""What a parked message says of itself is read safely, whoever wrote it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid import parking
from grid.parking import MAX_REPLAYS, Parked
from tests.grid.strategies import json_values

DEATH = {"reason": "delivery_limit", "queue": "charge.requests", "count": 1}


def test_parking_label_is_read_back_as_written() -> None:
    """Reason, kind, queue, time and replays; what RabbitMQ said of it stays readable."""
    before = {parking.REPLAYS_HEADER: 2, parking.DEATHS_HEADER: [DEATH], "x-strange": 1.5}
    label = parking.label("malformed", "not JSON", "charge.requests", 1_700_000_000.9, before)
    assert parking.read("j1", b"?", label) == Parked(
        "j1", b"?", label, 1_700_000_000, "malformed", "not JSON", "charge.requests", 2
    )
    assert '"delivery_limit"' in label[parking.PARKED_DEATHS_HEADER]
    assert "x-strange" not in label


def test_parking_label_bounds_header_size() -> None:
    """Whatever a message contains: headers that fit in no frame would break the link."""
    before = {parking.DEATHS_HEADER: [{"queue": "x" * 100_000}] * 5}
    assert len(str(parking.label("kind", "reason", "queue", 1, before))) < 10_000


@pytest.mark.parametrize(
    ("headers", "kind", "reason", "queue"),
    [
        ({}, "unknown", "nobody said why", ""),
        (
            {"x-death": [DEATH]},
            "delivery limit",
            "charge.requests delivered it again and again, always in vain",
            "charge.requests",
        ),
        (
            {"x-death": [{"reason": "rejected", "queue": "substation.s1"}, DEATH]},
            "rejected",
            "substation.s1 had a consumer that rejected it",
            "substation.s1",
        ),
        ({"x-death": [{"reason": "{}", "queue": "q"}]}, "dead", "q gave it up: '{}'", "q"),
        ({"x-parked-reason": "why"}, "unknown", "why", ""),  # as it was parked before
    ],
)
def test_parked_message_without_label_has_rabbitmqs_reason_or_none(
    headers: dict[str, Any], kind: str, reason: str, queue: str
) -> None:
    """The reason is RabbitMQ's, or none."""
    parked = parking.read(None, b"?", headers)
    assert (parked.kind, parked.reason, parked.queue) == (kind, reason, queue)
    assert parked.at is None
    assert parked.id.startswith("unnamed-")


@pytest.mark.parametrize(
    ("value", "replays"),
    [(0, 0), (3, 3), (MAX_REPLAYS, MAX_REPLAYS), (MAX_REPLAYS + 1, 0), (-1, 0), (True, 0)],
)
def test_parking_counts_replays_in_headers_and_events(value: object, replays: int) -> None:
    """An invalid count is 0; a message that was never replayed has no header."""
    assert parking.replays({parking.REPLAYS_HEADER: value}) == replays
    assert parking.replays({parking.REPLAYS: value}) == replays
    assert parking.replays(parking.marked(replays)) == replays
    assert parking.replays(parking.noted(replays)) == replays
    assert parking.marked(0) == parking.noted(0) == {}


HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *(value for name, value in vars(parking).items() if name.endswith("_HEADER")),
            "x-other",
        ]
    ),
    json_values | st.binary() | st.just([DEATH]) | st.lists(st.just({"queue": 1, "reason": []})),
)


@given(st.none() | st.text(), st.binary(), HEADERS)
def test_parking_reads_any_headers_without_an_error(
    id: str | None, body: bytes, headers: dict[str, Any]
) -> None:
    """Whatever the headers contain, the message is read and labelled again."""
    parked = parking.read(id, body, headers)
    label = parking.label(parked.kind, parked.reason, parked.queue, 5.0, headers)
    again = parking.read(parked.id, body, label)
    assert (again.id, again.replays) == (parked.id, parked.replays)
    assert again.kind == parked.kind
