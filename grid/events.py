"""The event log: what happened to each job, as it is written to ``charge.events`` and read back.

One message of the stream carries one or more events, a JSON object a line, so that a busy writer
pays for one publish where it has many events at once. A reader must take the same event twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from grid.errors import MalformedMessage
from grid.messages import MAX_UNIX_TIME, shown, valid_job_id


class State(StrEnum):
    """A job's states, in the order it goes through them; the last four end it."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    CHARGING = "charging"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PARKED = "parked"


ENDED: Final = frozenset({State.COMPLETED, State.CANCELLED, State.EXPIRED, State.PARKED})

SUBSTATIONS: Final = "substations"  # what the dispatcher knows of all substations
MARKER: Final = "marker"  # a reader's own mark: what was written before it has been read
STILL_READING: Final = "the event log is still being read"  # why a reader of it is not ready

MAX_FIGURE: Final = 1e15  # beyond, one session more or less would be lost in the rounding

_KINDS: Final = frozenset({*State, SUBSTATIONS, MARKER})


class Counts(NamedTuple):
    """What a substation has in hand, all read at one instant.

    ``load`` is its sessions in progress; ``accepted`` and ``completed`` count sessions, and
    ``dropped`` what was taken from the queue and not charged (second copies of a job, vehicles that
    had left), since ``started_at`` (Unix seconds), which tells one run of the process from the
    next. ``power_kw`` is what its sessions draw together, or None where it does not say;
    ``waiting`` counts the jobs it has been brought while every connector is taken.
    """

    load: float
    accepted: float
    completed: float
    dropped: float
    started_at: float
    power_kw: float | None = None
    waiting: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, at ``at`` (Unix seconds).

    ``kind`` is a ``State`` of the job ``job``, or ``SUBSTATIONS`` or ``MARKER``. ``attempt`` counts
    the job's deliveries, from 1. ``counts`` are the substation's own, just after the event.
    ``detail`` is the request where a job is queued and the decision where it is assigned.
    """

    kind: str
    at: float
    job: str = ""
    substation: str = ""
    attempt: int = 0
    reason: str = ""
    counts: Counts | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


_FIELDS: Final = frozenset(Event.__dataclass_fields__)  # a reader ignores those it does not know


def encode(events: Iterable[Event]) -> bytes:
    """Give the bytes of one message that carries these events, in their order."""
    return b"\n".join(map(_encode_one, events))


def decode(body: bytes) -> list[Event]:
    """Read the events of one message, in their order.

    Raises ``MalformedMessage`` for anything ``encode`` would not have written.
    """
    return [_decode_one(line) for line in body.splitlines()]


def _encode_one(event: Event) -> bytes:
    value: dict[str, Any] = {"kind": event.kind, "at": event.at}
    for name in ("job", "substation", "attempt", "reason", "counts", "detail"):
        if content := getattr(event, name):
            value[name] = content
    return json.dumps(value, separators=(",", ":")).encode()


def _decode_one(line: bytes) -> Event:
    try:
        value = json.loads(line)
        known = {name: value[name] for name in _FIELDS & value.keys()}
        event = Event(**(known | {"counts": _counts(value.get("counts"))}))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedMessage(f"not an event: {shown(line)}: {error}") from error
    if not _sound(event):
        raise MalformedMessage(f"not an event: {shown(line)}: a field is missing or wrong")
    return event


def _counts(value: object) -> Counts | None:
    if value is None:
        return None
    counts = Counts(*value)  # type: ignore[misc]  # a wrong shape is the TypeError that is caught
    known = counts._replace(power_kw=0.0) if counts.power_kw is None else counts
    if not all(_is_figure(each, MAX_FIGURE) for each in known):
        raise TypeError(f"counts are {shown(value)}")
    return counts


def _sound(event: Event) -> bool:
    return (
        isinstance(event.kind, str)
        and event.kind in _KINDS
        and _is_figure(event.at, MAX_UNIX_TIME)
        and (valid_job_id(event.job) or (event.kind == SUBSTATIONS and event.job == ""))
        and isinstance(event.substation, str)
        and isinstance(event.reason, str)
        and type(event.attempt) is int
        and isinstance(event.detail, dict)
    )


def _is_figure(value: object, most: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= most  # NaN compares false
