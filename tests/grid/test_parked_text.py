"""A parked message is shown whole, and cannot steer the terminal it is shown on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.messages import ChargeRequest
from grid.parked import text
from grid.parking import Parked, read

ESCAPE = "\x1b[2J"


def parked(body: bytes = b"{}", **changes: Any) -> Parked:  # noqa: ANN401
    """Make a message that was parked."""
    values: dict[str, Any] = {
        "id": "j1",
        "body": body,
        "headers": {"x-parked-kind": "no such substation"},
        "at": 1_700_000_000,
        "kind": "no such substation",
        "reason": "no such substation: s9",
        "queue": "charge.requests",
        "replays": 1,
    }
    return Parked(**(values | changes))


def test_parked_list_line_has_every_column() -> None:
    """Id, when, kind as one word, vehicle, queue, size, replays, reason; below its heading."""
    line = text.row(parked(b"12345"))
    assert line.split() == [
        *("j1", "2023-11-14T22:13:20Z", "no-such-substation", "-", "charge.requests", "5", "1"),
        *("no", "such", "substation:", "s9"),
    ]
    assert line.index("no such") == text.HEADING.index("REASON")


def request(vehicle: str) -> bytes:
    """Return a request for a vehicle, as the api publishes it."""
    return ChargeRequest("j1", 1_700_000_000, vehicle_id=vehicle).encode()


def test_parked_list_on_a_terminal_fits_its_width() -> None:
    """With the vehicle, which may have a long name, and the reason below it."""
    width = 80
    found = parked(
        request("bus 12, 充電" + " of the depot" * 4), id="4" * 36, reason="no substation, " * 60
    )
    first, *others = text.fitted(found, width).splitlines()
    assert first == f"{'4' * 36}  2023-11-14T22:13:20Z  bus 12, 充電 of the…"
    assert first.index("bus 12") == text.FITTED_HEADING.index("VEHICLE")
    assert others[0].startswith("    no-such-substation: no substation,")
    assert len(others) == 3
    assert all(len(line) <= width for line in (first, *others))
    body = request("bus 12")
    short = text.fitted(parked(body), width).splitlines()
    assert short[0].endswith("  bus 12")
    assert short[1:] == [
        f"    no-such-substation: no such substation: s9 ({len(body)} bytes from charge.requests,",
        "    replays: 1)",
    ]


def test_parked_message_shows_its_vehicle() -> None:
    """In each form; a message that is no request has none."""
    named, strange = parked(request("bus 12")), parked(b"no request")
    assert "vehicle  bus 12\n" in text.whole(named)
    assert "  bus 12  " in text.row(named)
    assert json.loads(text.as_json(named))["vehicle_id"] == "bus 12"
    assert "vehicle  -\n" in text.whole(strange)
    assert json.loads(text.as_json(strange))["vehicle_id"] is None


@pytest.mark.parametrize("at", [None, -1, float("nan"), 1e300])
def test_parked_list_shows_an_invalid_time_as_a_dash(at: float | None) -> None:
    """An invalid header does not end the list."""
    assert text.moment(at) == "-"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"id": "caf\xc3\xa9"}', '{"id": "café"}'),
        (b"two\nlines", "two\nlines"),
        (b"\xff\x00", "ff 00"),
        (ESCAPE.encode(), "1b 5b 32 4a"),
        (b"", ""),
    ],
)
def test_parked_body_is_shown_as_text_or_hex(body: bytes, shown: str) -> None:
    """The whole body is shown either way."""
    assert text.whole(parked(body)).endswith(shown)


def test_parked_body_in_hex_is_complete() -> None:
    """Every byte is shown, 32 on each line."""
    lines = text.whole(parked(bytes(range(256)))).splitlines()
    lines = lines[lines.index("body, in hex") + 1 :]
    assert len(lines) == 8
    assert bytes.fromhex("".join(lines)) == bytes(range(256))


def test_parked_json_is_one_line_with_the_body() -> None:
    """Other programs can read it, also if the body is not text."""
    found = json.loads(text.as_json(parked(b'{"a": 1}')))
    assert (found["id"], found["kind"], found["body"]) == ("j1", "no-such-substation", '{"a": 1}')
    assert json.loads(text.as_json(parked(b"\xff")))["body_hex"] == "ff"


@given(st.binary(), st.text(), st.text())
def test_parked_text_escapes_control_characters(body: bytes, reason: str, queue: str) -> None:
    """Whatever a message contains, the output is printable, and one line each in the list."""
    headers = {"x-parked-reason": reason + ESCAPE, "x-parked-from": queue + "\r", "x-other": body}
    found = read(reason, body, headers)
    assert text.row(found).isprintable()
    assert text.fitted(found, 80).replace("\n", "").isprintable()
    assert "\n" not in text.as_json(found)
    lines = text.whole(found).replace("\n", "").replace("\t", "")
    assert lines.isprintable()
