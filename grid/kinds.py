"""What an event's detail holds, by kind: written, and read by name, only here. Pure.

The log is read again at each start, and anybody may have written it: an older version, a newer one,
another program. So a field of the wrong shape counts as missing, and neither its event nor the
others of its message are refused. See
docs/decisions/0043-what-a-detail-says-is-read-in-one-place.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from grid import messages, parking
from grid.detail import Detail
from grid.errors import MalformedMessage
from grid.events import (
    BOOKED,
    CANCELLED,
    REQUEUED,
    SUBSTATIONS,
    Event,
    State,
    is_time,
)
from grid.messages import ChargeRequest, valid_substation_id

_REQUESTED_AT: Final = "requested_at"  # in a request, and in each decision
_TENANT: Final = "tenant"
_READ_TO: Final = "read_to"
_DISPATCHER: Final = "dispatcher"
_ROWS: Final = "substations"
_FORMER: Final = "former"
_UNSETTLED_FROM: Final = "unsettled_from"
_LEAVES: Final = "leaves"
_KEPT_FOR: Final = "kept_for"
_BY_CLIENT: Final = "by_client"
_GRANTED: Final = "granted"
_START: Final = "start"
_REQUEST: Final = "request"
_WAS_AT: Final = "was_at"

# of a job that its client has cancelled: no replay undoes that
ANY_REPLAYS: Final = parking.MAX_REPLAYS + 1
CANCELLED_BY_CLIENT: Final = "cancelled by its client"


def queued(request: ChargeRequest) -> Event:
    """Return the event of a request that was accepted, which holds all of it."""
    return Event(State.QUEUED, request.requested_at, job=request.id, detail=request.fields())


def request_in(detail: Mapping[str, Any]) -> ChargeRequest | None:
    """Return the request in a queued event; None in that of a replay, which holds none.

    Raise ``MalformedMessage`` if it is no request.
    """
    return messages.of_fields(detail) if "id" in detail else None


def assigned(
    job: str,
    at: float,
    substation: str,
    attempt: int,
    *,
    requested_at: float,
    replays: int,
    decision: Mapping[str, object],
) -> Event:
    """Return the event of a decision, which holds its explanation; times are Unix seconds."""
    detail = {_REQUESTED_AT: requested_at, **parking.noted(replays), **decision}
    return Event(State.ASSIGNED, at, job, substation, attempt, detail=detail)


def requested_at(detail: Mapping[str, Any]) -> float | None:
    """Return when a job was requested, in Unix seconds, by its request or its decision."""
    found = detail.get(_REQUESTED_AT)
    return found if is_time(found) else None


def tenant(detail: Mapping[str, Any]) -> str:
    """Return whose a request is, in its queued event; empty if it names no tenant."""
    found = detail.get(_TENANT)
    return found if isinstance(found, str) else ""


def decision_in(detail: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the decision in an assigned event; None if it holds none."""
    return detail if detail.keys() - {parking.REPLAYS} else None


def explanation(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return a decision's explanation, without the time of its request."""
    return {name: decision[name] for name in decision if name != _REQUESTED_AT}


def cancelled(job: str, at: float, attempt: int = 0) -> Event:
    """Return the event of a job that its client has cancelled."""
    detail = ended_after(ANY_REPLAYS)
    return Event(
        State.CANCELLED, at, job, attempt=attempt, reason=CANCELLED_BY_CLIENT, detail=detail
    )


def expiry_reason(request: ChargeRequest, departed: str) -> str:
    """Return why a request expires that still waits: ``departed``, or that it waited too long."""
    if request.waits_until is None or request.waits_until != request.expires_at:
        return departed
    return f"it waited longer than its max_wait_seconds ({request.max_wait_seconds:.15g})"


def replays(event: Event) -> int:
    """Return after how many replays of its job an event was written.

    ``ANY_REPLAYS`` for the cancellation by a client: a substation writes no other one.
    """
    if event.kind == CANCELLED and (event.substation or event.detail.get(_BY_CLIENT)):
        return ANY_REPLAYS
    detail = event.detail  # both names under which it may have the number contain this one
    if not detail or (isinstance(detail, Detail) and not detail.may_have(parking.REPLAYS)):
        return 0
    return parking.replays(detail)


def ended_after(replays: int) -> dict[str, Any]:
    """Return the detail of an end from which ``replays`` reads this number."""
    return {_BY_CLIENT: True} if replays == ANY_REPLAYS else parking.noted(replays)


def requeued(job: str, at: float, substation: str, read_to: int) -> Event:
    """Return the event of a job that is back in ``charge.requests``, from a substation.

    Its writer had read the log up to the offset ``read_to`` when it published the job.
    """
    return Event(REQUEUED, at, job, substation, detail={_READ_TO: read_to})


def read_to(detail: Mapping[str, Any]) -> int | None:
    """Return the offset up to which the writer of a requeued event had read the log."""
    found = detail.get(_READ_TO)
    return found if type(found) is int else None


class Booking(Struct, frozen=True, gc=False):
    """A start at a substation that is promised to a job.

    Args:
        request: The job's request.
        substation: Where it begins.
        start: When, in Unix seconds.
        end: When its session is expected to end.
    """

    request: ChargeRequest
    substation: str
    start: float
    end: float


class Promise(Struct, frozen=True, gc=False):
    """What a job that asked for a start was told: that it has one, or the nearest there is.

    ``start`` is in Unix seconds; a refused job that could begin nowhere has no ``substation``.
    """

    granted: bool
    substation: str
    start: float


NO_START: Final = Promise(granted=False, substation="", start=0.0)


def booked(booking: Booking, at: float, reason: str = "") -> Event:
    """Return the event of a start that is promised; ``reason`` is why it is another than before.

    It holds the request: the job is sent in time, though its message waits behind many others.
    """
    detail = {_GRANTED: True, _START: booking.start, _REQUEST: booking.request.fields()}
    return Event(
        BOOKED,
        at,
        booking.request.id,
        booking.substation,
        reason=reason,
        ends_at=booking.end,
        detail=detail,
    )


def refused(job: str, at: float, nearest: Booking | None) -> Event:
    """Return the event of a start that is refused, with the nearest one that was free."""
    if nearest is None:
        return told(job, at, NO_START)
    return told(job, at, Promise(granted=False, substation=nearest.substation, start=nearest.start))


def withdrawn(booking: Booking, at: float, reason: str) -> Event:
    """Return the event of a promise that cannot be kept, where there is no other start."""
    detail = {_GRANTED: False, _WAS_AT: booking.substation}
    return Event(BOOKED, at, booking.request.id, reason=reason, detail=detail)


def withdrawn_from(event: Event) -> str:
    """Return where the start was that a booked event withdraws; empty if it withdraws none."""
    where = event.detail.get(_WAS_AT)
    return str(where) if valid_substation_id(where) else ""


def booking_in(event: Event) -> Booking | None:
    """Return the start that a booked event promises; None if it refuses one, or is malformed."""
    promise, fields = promise_in(event), event.detail.get(_REQUEST)
    if promise is None or not promise.granted or not isinstance(fields, Mapping):
        return None
    try:
        request = messages.of_fields(fields)
    except MalformedMessage:
        return None
    if request.id != event.job:
        return None
    return Booking(request, promise.substation, promise.start, max(promise.start, event.ends_at))


def told(job: str, at: float, promise: Promise, reason: str = "") -> Event:
    """Return a booked event that tells a client this, without the request."""
    detail: dict[str, Any] = {_GRANTED: promise.granted}
    if promise.substation:
        detail[_START] = promise.start
    return Event(BOOKED, at, job, promise.substation, reason=reason, detail=detail)


def promise_in(event: Event) -> Promise | None:
    """Return what a booked event tells a client; None if it is malformed."""
    granted, start = event.detail.get(_GRANTED), event.detail.get(_START)
    if granted is False and not event.substation:
        return NO_START
    if type(granted) is not bool or not is_time(start) or not valid_substation_id(event.substation):
        return None
    return Promise(granted, event.substation, start)


def snapshot(
    at: float,
    dispatcher: str,
    rows: list[dict[str, Any]],
    former: Iterable[str],
    unsettled_from: int,
    *,
    leaves: bool = False,
    kept_for: int | None = None,
) -> Event:
    """Return the event of what a dispatcher knows of all substations: see ``Snapshot``."""
    detail = {
        _DISPATCHER: dispatcher,
        _ROWS: rows,
        _FORMER: sorted(former),
        _UNSETTLED_FROM: unsettled_from,
        **({_LEAVES: True} if leaves else {}),
        **({} if kept_for is None else {_KEPT_FOR: kept_for}),
    }
    return Event(SUBSTATIONS, at, detail=detail)


class Snapshot:
    """What a dispatcher knows of all substations, by its event; parsed when needed."""

    __slots__ = ("_detail",)

    def __init__(self, detail: Mapping[str, Any]) -> None:
        self._detail = detail

    @property
    def dispatcher(self) -> str | None:
        """Return the name of the dispatcher."""
        found = self._detail.get(_DISPATCHER)
        return found if isinstance(found, str) and found else None

    @property
    def leaves(self) -> bool:
        """Return whether this is the dispatcher's last snapshot."""
        return self._detail.get(_LEAVES) is True

    @property
    def kept_for(self) -> int | None:
        """Return the priority for which all free connectors are kept; None if none are."""
        found = self._detail.get(_KEPT_FOR)
        return found if type(found) is int else None

    @property
    def unsettled_from(self) -> int | None:
        """Return the offset from which its successor has to read the event log."""
        found = self._detail.get(_UNSETTLED_FROM)
        return found if type(found) is int and found >= 0 else None

    @property
    def rows(self) -> list[dict[str, Any]] | None:
        """Return the row of each substation; None if one of them has no valid id."""
        rows = self._detail.get(_ROWS)
        if isinstance(rows, list) and all(_id(each) is not None for each in rows):
            return rows
        return None

    @property
    def names(self) -> list[str]:
        """Return the ids of the substations there are."""
        return [name for each in _list(self._detail.get(_ROWS)) if (name := _id(each)) is not None]

    @property
    def former(self) -> list[str]:
        """Return the ids of those that left, and whose queues are still looked at."""
        return [each for each in _list(self._detail.get(_FORMER)) if valid_substation_id(each)]


def _id(row: object) -> str | None:
    found = row.get("substation") if isinstance(row, dict) else None
    return found if valid_substation_id(found) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
