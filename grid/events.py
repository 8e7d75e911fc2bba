"""The event log: what happened to each job, as it is written to ``charge.events`` and read back.

One message of the stream carries one or more events, a JSON object a line, so that a busy writer
needs one publish for many events. A reader must accept the same event twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeAlias, TypeGuard

import msgspec
from msgspec import Meta, Struct

from grid import wire
from grid.detail import Detail
from grid.errors import MalformedMessage
from grid.json_reading import convert, known
from grid.messages import ID_PATTERN, MAX_UNIX_TIME, shown


class State(StrEnum):
    """A job's states, in the order it goes through them; the last four end it."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    CHARGING = "charging"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PARKED = "parked"


# Where each event is handled these are read, and not the members: that takes a twelfth of the time.
QUEUED, ASSIGNED, CHARGING, COMPLETED, CANCELLED, EXPIRED, PARKED = State
STATES: Final[Mapping[str, State]] = {state.value: state for state in State}

ENDED: Final = frozenset({State.COMPLETED, State.CANCELLED, State.EXPIRED, State.PARKED})
FINAL: Final = frozenset({State.COMPLETED, State.EXPIRED})
ASIDE: Final = ENDED - FINAL  # an operator may replay a job after that

SUBSTATIONS: Final = "substations"  # what the dispatcher knows of all substations
REQUEUED: Final = "requeued"  # a job was put back into charge.requests by the dispatcher
BOOKED: Final = "booked"  # a job that asked for a start was promised one, or refused
MARKER: Final = "marker"  # a reader's own mark: all before it has been read

DEEPEST: Final = 32  # levels of nesting; a decision has four
MAX_FIGURE: Final = 1e15  # beyond it, rounding would hide a difference of one session
MAX_EVENTS: Final = 500  # in one message, which RabbitMQ must be able to take
MAX_EVENTS_READ: Final = 2 * MAX_EVENTS
MAX_REASON: Final = 2_000  # characters of a reason that are kept
MAX_SUBSTATION: Final = 200  # characters of a substation's name
MAX_ATTEMPT: Final = 1_000_000_000

if TYPE_CHECKING:
    Kind: TypeAlias = str
else:
    Kind = Literal[(*(state.value for state in State), SUBSTATIONS, REQUEUED, BOOKED, MARKER)]
Time: TypeAlias = (
    Annotated[int, Meta(ge=0, le=int(MAX_UNIX_TIME))]
    | Annotated[float, Meta(ge=0.0, le=MAX_UNIX_TIME)]
)
Figure: TypeAlias = (
    Annotated[int, Meta(ge=0, le=int(MAX_FIGURE))] | Annotated[float, Meta(ge=0.0, le=MAX_FIGURE)]
)


class Counts(NamedTuple):
    """A substation's counters, all read at one instant.

    ``load`` is its sessions in progress; ``accepted`` counts those begun, ``completed`` those ended
    (also by a cancellation), and ``dropped`` what was taken from the queue and not charged (second
    copies of a job, vehicles that had left, cancelled jobs), since ``started_at`` (Unix seconds),
    which distinguishes one run of the process from the next. ``power_kw`` is what its sessions draw
    together, or None if it does not say; ``waiting`` counts the jobs delivered to it while every
    connector is taken.
    """

    load: Figure
    accepted: Figure
    completed: Figure
    dropped: Figure
    started_at: Figure
    power_kw: Figure | None = None
    waiting: Figure = 0.0


class _Fields(Struct, frozen=True, gc=False, omit_defaults=True):
    """The fields of every event, and their limits."""

    kind: Kind
    at: Time
    job: Annotated[str, Meta(pattern=rf"^({ID_PATTERN[1:-1]})?\Z")] = ""
    substation: Annotated[str, Meta(max_length=MAX_SUBSTATION)] = ""
    attempt: Annotated[int, Meta(ge=0, le=MAX_ATTEMPT)] = 0
    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""
    counts: Counts | None = None
    energy_kwh: Figure = 0.0
    ends_at: Figure = 0.0


class Event(_Fields, frozen=True):
    """One thing that happened, at ``at`` (Unix seconds).

    ``kind`` is a ``State`` of the job ``job``, or one of ``SUBSTATIONS``, ``REQUEUED``, ``BOOKED``
    and ``MARKER``. ``attempt`` counts the job's deliveries, from 1. ``counts`` are the substation's
    own, just after the event. ``energy_kwh`` is what a session delivered that has ended;
    ``ends_at`` is when one that begins is planned to end, in Unix seconds; 0 is unknown. ``detail``
    is the request if a job is queued, the decision if it is assigned, and the promise, with the
    request, if it is booked. Only ``decode`` checks the values.
    """

    detail: Mapping[str, Any] = msgspec.field(default_factory=dict)


class _Line(_Fields, frozen=True):
    """An event whose detail is not parsed yet."""

    detail: msgspec.Raw = msgspec.Raw(b"{}")


_DECODER: Final = msgspec.json.Decoder(Event)
_LINE_DECODER: Final = msgspec.json.Decoder(_Line)


def encode(events: Iterable[Event]) -> bytes:
    """Return the bytes of one message that carries these events, in their order."""
    return wire.encode_lines(events)


def decode(body: bytes) -> list[Event]:
    """Return the events of one message, in their order.

    Raise ``MalformedMessage`` for anything ``encode`` would not have written, and for more than
    ``MAX_EVENTS_READ`` events. Of a reason longer than ``MAX_REASON`` the beginning is kept.
    """
    if (found := _decode_quickly(body)) is not None:
        return found
    lines = body.splitlines()
    if len(lines) > MAX_EVENTS_READ:
        raise MalformedMessage(
            f"not events: {shown(body[:100])}: {len(lines)} lines, more than {MAX_EVENTS_READ}"
        )
    return [_decode_one(line) for line in lines]


def _decode_quickly(body: bytes) -> list[Event] | None:
    """Return the events of a message all at once; None if its lines are to be read one by one."""
    lines = body.count(b"\n") + 1
    # a line break within an event would hide that another line has two
    if lines > MAX_EVENTS_READ or body.count(b"}\n{") + 1 != lines:
        return None
    try:
        if b'"detail":' in body:
            found = [_with_detail(each) for each in _LINE_DECODER.decode_lines(body.decode())]
        else:
            found = _DECODER.decode_lines(body.decode())
            if any(each.detail for each in found):
                return None
    except wire.UNREADABLE:
        return None
    are_whole = all(each.job or each.kind == SUBSTATIONS for each in found)
    return found if are_whole and len(found) == lines else None


def _decode_one(line: bytes) -> Event:
    try:
        text = line.decode()
        if '"detail":{"' in text:
            event = _with_detail(_LINE_DECODER.decode(text))
        else:
            event = _DECODER.decode(text)
    except wire.UNREADABLE:
        event = _decode_slowly(line)
    if not event.job and event.kind != SUBSTATIONS:
        raise MalformedMessage(f"not an event: {shown(line)}: job is missing")
    if _is_deeper(event.detail, DEEPEST):
        raise MalformedMessage(f"not an event: {shown(line)}: more than {DEEPEST} deep")
    return event


def _with_detail(fields: _Line) -> Event:
    """Return an event whose detail is not parsed yet; it is written without spaces, as ours are."""
    detail = bytes(fields.detail)
    if not detail.startswith((b'{"', b"{}")):
        raise ValueError("the detail is no object")
    braces = detail.count(b"[") + detail.count(b"{")  # quicker than to parse it
    if braces > DEEPEST and _is_deeper(Detail(detail).parsed(), DEEPEST):
        raise ValueError("the detail is too deep")
    return Event(
        fields.kind,
        fields.at,
        fields.job,
        fields.substation,
        fields.attempt,
        fields.reason,
        fields.counts,
        fields.energy_kwh,
        fields.ends_at,
        {} if detail == b"{}" else Detail(detail),
    )


def _decode_slowly(line: bytes) -> Event:
    """Return the event of a line that msgspec does not read; raise what is wrong if it is none."""
    try:
        value = known(json.loads(line), Event)
        if isinstance(value, dict) and isinstance(reason := value.get("reason"), str):
            value["reason"] = reason[:MAX_REASON]
        return convert(value, Event)
    except wire.UNREADABLE as error:
        raise MalformedMessage(f"not an event: {shown(line)}: {error}") from error


def _is_deeper(value: object, most: int) -> bool:
    """Return whether a JSON value is nested more than ``most`` levels deep."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_is_deeper(each, most - 1) for each in inner)


def is_time(value: object) -> TypeGuard[float]:
    """Return whether it is a time in Unix seconds that can be expressed as a date."""
    return _is_figure(value, MAX_UNIX_TIME)


def _is_figure(value: object, most: float) -> bool:
    kind = type(value)  # JSON has these two number types, and true is none
    return (kind is float or kind is int) and 0 <= value <= most  # type: ignore[operator]  # NaN compares false
