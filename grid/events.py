"""The event log: what happened to each job, as it is written to ``charge.events`` and read back.

One message of the stream carries one or more events, a JSON object a line, so that a busy writer
pays for one publish where it has many events at once. A reader must take the same event twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeGuard

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
FINAL: Final = frozenset({State.COMPLETED, State.EXPIRED})
ASIDE: Final = ENDED - FINAL  # an operator may replay a job after that

SUBSTATIONS: Final = "substations"  # what the dispatcher knows of all substations
REQUEUED: Final = "requeued"  # a job was put back into charge.requests by the dispatcher
MARKER: Final = "marker"  # a reader's own mark: what was written before it has been read
STILL_READING: Final = "the event log is still being read"  # why a reader of it is not ready

DEEPEST: Final = 32  # a value within values; a decision has four
MAX_FIGURE: Final = 1e15  # beyond, one session more or less would be lost in the rounding
MAX_EVENTS: Final = 500  # that one message carries, which RabbitMQ must be able to take
MAX_EVENTS_READ: Final = 2 * MAX_EVENTS
MAX_REASON: Final = 2_000  # characters of a reason that are kept
MAX_SUBSTATION: Final = 200  # characters of a substation's name
MAX_ATTEMPT: Final = 1_000_000_000

_KINDS: Final = frozenset({*State, SUBSTATIONS, REQUEUED, MARKER})


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


def encode(events: Iterable[Event]) -> bytes:
    """Give the bytes of one message that carries these events, in their order."""
    return b"\n".join(map(_encode_one, events))


def decode(body: bytes) -> list[Event]:
    """Read the events of one message, in their order.

    Raises ``MalformedMessage`` for anything ``encode`` would not have written, and for more than
    ``MAX_EVENTS_READ`` events. Of a reason longer than ``MAX_REASON`` the beginning is kept.
    """
    lines = body.splitlines()
    if len(lines) > MAX_EVENTS_READ:
        raise MalformedMessage(
            f"not events: {shown(body[:100])}: {len(lines)} lines, more than {MAX_EVENTS_READ}"
        )
    return [_decode_one(line) for line in lines]


def _encode_one(event: Event) -> bytes:
    value: dict[str, Any] = {"kind": event.kind, "at": event.at}
    for name in ("job", "substation", "attempt", "reason", "counts", "detail"):
        if content := getattr(event, name):
            value[name] = content
    return json.dumps(value, separators=(",", ":")).encode()


def _decode_one(line: bytes) -> Event:
    try:
        event = _event(json.loads(line))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise MalformedMessage(f"not an event: {shown(line)}: {error}") from error
    if line.count(b"[") + line.count(b"{") > DEEPEST and _is_deeper(event.detail, DEEPEST):
        raise MalformedMessage(f"not an event: {shown(line)}: more than {DEEPEST} deep")
    if not _sound(event):
        raise MalformedMessage(f"not an event: {shown(line)}: a field is missing or wrong")
    return event


def _event(value: dict[str, Any]) -> Event:
    """Give the event of a JSON object; what it has besides is ignored.

    One by one, and by their places: a service that starts reads very many.
    """
    get = value.get
    counts = get("counts")
    return Event(
        value["kind"],
        value["at"],
        get("job", ""),
        get("substation", ""),
        get("attempt", 0),
        get("reason", "")[:MAX_REASON],
        None if counts is None else _counts(counts),
        get("detail", {}),
    )


def _counts(value: Iterable[Any]) -> Counts:
    """Read counts. Raises ``TypeError`` for another shape, and for what is no figure."""
    counts = Counts(*value)
    known = counts._replace(power_kw=0.0) if counts.power_kw is None else counts
    for each in known:
        if not _is_figure(each, MAX_FIGURE):
            raise TypeError(f"counts are {shown(value)}")
    return counts


def _sound(event: Event) -> bool:
    return (
        isinstance(event.kind, str)
        and event.kind in _KINDS
        and is_time(event.at)
        and (valid_job_id(event.job) or (event.kind == SUBSTATIONS and event.job == ""))
        and isinstance(event.substation, str)
        and len(event.substation) <= MAX_SUBSTATION
        and isinstance(event.reason, str)
        and type(event.attempt) is int
        and 0 <= event.attempt <= MAX_ATTEMPT
        and isinstance(event.detail, dict)
    )


def _is_deeper(value: object, most: int) -> bool:
    """Tell whether a value of JSON has more than so many within one another: it has no end."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_is_deeper(each, most - 1) for each in inner)


def is_time(value: object) -> TypeGuard[float]:
    """Tell whether it is a time in Unix seconds that can be given as a date."""
    return _is_figure(value, MAX_UNIX_TIME)


def _is_figure(value: object, most: float) -> bool:
    kind = type(value)  # JSON has these two, and true is none
    return (kind is float or kind is int) and 0 <= value <= most  # type: ignore[operator]  # NaN compares false
