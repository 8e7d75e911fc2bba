"""What a parked message says of itself, and what a replay keeps of it. Pure.

How often a message was replayed is a header of it (``REPLAYS_HEADER``), and is part of the events
about it. So two copies of one replay are recognised as the same, and a replay is not confused with
what was parked before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from grid.messages import name_of, shown
from grid.trace import MAX_TRACESTATE, TRACEPARENT, TRACESTATE

REASON_HEADER: Final = "x-parked-reason"
KIND_HEADER: Final = "x-parked-kind"  # the reason in a word or two
FROM_HEADER: Final = "x-parked-from"  # the queue it was in
AT_HEADER: Final = "x-parked-at"  # Unix seconds, whole ones: pika writes no others
PARKED_DEATHS_HEADER: Final = "x-parked-deaths"  # its `x-death` header, as JSON
REPLAYS_HEADER: Final = "x-replays"
DEATHS_HEADER: Final = "x-death"  # RabbitMQ's record of a message it dead-lettered

REPLAYS: Final = "replays"  # in an event's detail
MAX_REPLAYS: Final = 1_000_000

REJECTED: Final = "rejected"
DELIVERY_LIMIT: Final = "delivery limit"
DEAD: Final = "dead"
UNKNOWN: Final = "unknown"

_TRACE: Final = (TRACEPARENT, TRACESTATE)
_MAX_DEATHS: Final = 4_000  # characters: all headers together must fit in one AMQP frame
_WHY_DEAD: Final[Mapping[str, tuple[str, str]]] = {
    "rejected": (REJECTED, "had a consumer that rejected it"),
    "delivery_limit": (DELIVERY_LIMIT, "delivered it again and again, always in vain"),
}


class Death(NamedTuple):
    """How RabbitMQ dead-lettered a message: in which queue, the reason in a word, and in full."""

    queue: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Parked:
    """A message of ``charge.parked``. ``at`` is when it was parked, in Unix seconds, if known.

    ``queue`` is the one it was in before, empty if that is not known.
    """

    id: str
    body: bytes
    headers: Mapping[str, Any]
    at: float | None
    kind: str
    reason: str
    queue: str
    replays: int


def read(id: str | None, body: bytes, headers: Mapping[str, Any]) -> Parked:
    """Return a parked message as read; no value in its headers does any harm."""
    died = death(headers)
    at = headers.get(AT_HEADER)
    return Parked(
        name_of(id, body),
        body,
        headers,
        at if isinstance(at, int | float) and not isinstance(at, bool) else None,
        _text(headers, KIND_HEADER) or (died.kind if died else UNKNOWN),
        _text(headers, REASON_HEADER) or (died.reason if died else "nobody said why"),
        _text(headers, FROM_HEADER) or (died.queue if died else ""),
        replays(headers),
    )


def replays(headers: Mapping[str, Any]) -> int:
    """Return how often a message was replayed, by its headers or by an event's detail."""
    found = headers.get(REPLAYS_HEADER, headers.get(REPLAYS))
    return found if type(found) is int and 0 <= found <= MAX_REPLAYS else 0


def death(headers: Mapping[str, Any]) -> Death | None:
    """Return how RabbitMQ dead-lettered a message the last time; None if it never did."""
    deaths = headers.get(DEATHS_HEADER)
    if not isinstance(deaths, list) or not deaths or not isinstance(deaths[0], dict):
        return None
    queue, word = _text(deaths[0], "queue"), _text(deaths[0], "reason")
    kind, what = _WHY_DEAD.get(word, (DEAD, f"gave it up: {shown(word)}"))
    return Death(queue, kind, f"{queue} {what}")


def marked(replays: int) -> dict[str, Any]:
    """Return the headers for this number of replays; none for 0."""
    return {REPLAYS_HEADER: replays} if replays else {}


def sent_again(parked: Parked) -> dict[str, Any]:
    """Return the headers for replaying a parked message: it stays in its trace."""
    trace = {name: text for name in _TRACE if (text := _text(parked.headers, name))}
    return {**trace, **marked(parked.replays + 1)}


def noted(replays: int) -> dict[str, Any]:
    """Return the number of replays as an event's detail; empty for 0."""
    return {REPLAYS: replays} if replays else {}


def label(
    kind: str, reason: str, queue: str, at: float, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the headers of a message to be parked; ``before`` are those it had.

    Of these, only known headers are kept: anybody may have written anything there.
    """
    trace = {name: text for name in _TRACE if (text := _text(before, name)[:MAX_TRACESTATE])}
    deaths = before.get(DEATHS_HEADER)
    shown = {PARKED_DEATHS_HEADER: json.dumps(deaths, default=str)[:_MAX_DEATHS]} if deaths else {}
    return {
        **trace,
        **marked(replays(before)),
        **shown,
        KIND_HEADER: kind,
        REASON_HEADER: reason,
        FROM_HEADER: queue,
        AT_HEADER: int(at),
    }


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""
