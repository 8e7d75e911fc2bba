"""Parked messages as text. Pure. Strangers wrote most of it: nothing may control a terminal."""

from __future__ import annotations

import json
from bisect import bisect_right
from itertools import accumulate
from textwrap import wrap
from typing import Final
from unicodedata import east_asian_width

from grid import messages
from grid.errors import MalformedMessage
from grid.parking import Parked
from grid.times import to_the_second

COLUMNS: Final = (
    "{id:<36}  {at:<20}  {kind:<22}  {vehicle:<20}  {queue:<22}  {size:>7}  {replays:>7}  {reason}"
)
HEADING: Final = COLUMNS.format(
    id="ID",
    at="PARKED",
    kind="KIND",
    vehicle="VEHICLE",
    queue="FROM",
    size="BYTES",
    replays="REPLAYS",
    reason="REASON",
)
# on a terminal: in lines that fit
FITTED: Final = "{id:<36}  {at:<20}  {vehicle}"
FITTED_HEADING: Final = FITTED.format(id="ID", at="PARKED", vehicle="VEHICLE")
FITTED_VEHICLE: Final = 60  # where its column begins
INDENT: Final = "    "
REASON_LINES: Final = 3
HEX_WIDTH: Final = 96  # 32 bytes a line


def slug(kind: str) -> str:
    """Return a kind of reason as one word, easy to type."""
    return kind.replace(" ", "-")


def row(parked: Parked) -> str:
    """Return a message as a line of the table below ``HEADING``."""
    return COLUMNS.format(
        id=plain(parked.id),
        at=moment(parked.at),
        kind=plain(slug(parked.kind)),
        vehicle=vehicle(parked),
        queue=plain(parked.queue) or "-",
        size=len(parked.body),
        replays=parked.replays,
        reason=plain(parked.reason),
    )


def fitted(parked: Parked, width: int) -> str:
    """Return a message in lines below ``FITTED_HEADING``, none of them wider than a terminal."""
    first = FITTED.format(
        id=plain(parked.id),
        at=moment(parked.at),
        vehicle=_cut(vehicle(parked), max(width - FITTED_VEHICLE, 1)),
    )
    figures = f"{len(parked.body)} bytes from {plain(parked.queue) or '-'}"
    if parked.replays:
        figures += f", replays: {parked.replays}"
    return "\n".join(
        [
            _cut(first, width),
            *wrap(
                f"{plain(slug(parked.kind))}: {plain(parked.reason)} ({figures})",
                max(width, len(INDENT) + 20),
                initial_indent=INDENT,
                subsequent_indent=INDENT,
                max_lines=REASON_LINES,
                placeholder=" …",
            ),
        ]
    )


def vehicle(parked: Parked) -> str:
    """Return the vehicle that a message is for; ``-`` if it names none, or is no request."""
    try:
        return plain(messages.decode(parked.body).vehicle_id or "-")
    except MalformedMessage:
        return "-"


def as_json(parked: Parked) -> str:
    """Return a message as JSON on one line; its body as hex, and as text if it is one."""
    text = body_text(parked.body)
    return json.dumps(
        {
            "id": parked.id,
            "parked_at": None if parked.at is None else moment(parked.at),
            "kind": slug(parked.kind),
            "vehicle_id": None if (name := vehicle(parked)) == "-" else name,
            "reason": parked.reason,
            "from": parked.queue or None,
            "replays": parked.replays,
            "bytes": len(parked.body),
            "headers": parked.headers,
            **({"body_hex": parked.body.hex()} if text is None else {"body": text}),
        },
        default=str,
    )


def whole(parked: Parked) -> str:
    """Return a message in full, in lines."""
    headers = json.dumps(parked.headers, default=str, indent=2, sort_keys=True)
    return "\n".join(
        [
            f"id       {plain(parked.id)}",
            f"parked   {moment(parked.at)}",
            f"kind     {plain(slug(parked.kind))}",
            f"vehicle  {vehicle(parked)}",
            f"reason   {plain(parked.reason)}",
            f"from     {plain(parked.queue) or '-'}",
            f"replays  {parked.replays}",
            f"bytes    {len(parked.body)}",
            f"headers  {headers}",
            *_body(parked.body),
        ]
    )


def moment(at: float | None) -> str:
    """Return Unix seconds as a time in UTC, to the second; ``-`` if it is none."""
    if at is None or not 0 <= at <= messages.MAX_UNIX_TIME:  # also refuses NaN
        return "-"
    return to_the_second(at)


def plain(text: str) -> str:
    """Return text with every character escaped that a terminal might obey."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def body_text(body: bytes) -> str | None:
    """Return a body as text; None if it is none."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if all(each.isprintable() or each in "\t\n\r" for each in text) else None


def _cut(text: str, width: int) -> str:
    """Return as much of a text as fits; a wide character takes two columns."""
    ends = list(accumulate(1 + (east_asian_width(each) in "WF") for each in text))
    if not ends or ends[-1] <= width:
        return text
    return text[: bisect_right(ends, width - 1)] + "…"


def _body(body: bytes) -> list[str]:
    text = body_text(body)
    if text is not None:
        return ["body", text.replace("\r", "\\r")]
    return ["body, in hex", *wrap(body.hex(" "), HEX_WIDTH)]
