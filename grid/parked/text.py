"""Parked messages as text. Pure. Strangers wrote most of it: nothing may control a terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from textwrap import wrap
from typing import Final

from grid import messages
from grid.parking import Parked

COLUMNS: Final = "{id:<36}  {at:<20}  {kind:<22}  {queue:<22}  {size:>7}  {replays:>7}  {reason}"
HEADING: Final = COLUMNS.format(
    id="ID",
    at="PARKED",
    kind="KIND",
    queue="FROM",
    size="BYTES",
    replays="REPLAYS",
    reason="REASON",
)
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
        queue=plain(parked.queue) or "-",
        size=len(parked.body),
        replays=parked.replays,
        reason=plain(parked.reason),
    )


def as_json(parked: Parked) -> str:
    """Return a message as JSON on one line; its body as hex, and as text if it is one."""
    text = body_text(parked.body)
    return json.dumps(
        {
            "id": parked.id,
            "parked_at": None if parked.at is None else moment(parked.at),
            "kind": slug(parked.kind),
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
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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


def _body(body: bytes) -> list[str]:
    text = body_text(body)
    if text is not None:
        return ["body", text.replace("\r", "\\r")]
    return ["body, in hex", *wrap(body.hex(" "), HEX_WIDTH)]
