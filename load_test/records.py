"""What a run records: the answer to each request, and the end of each job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from grid.errors import GridError
from grid.events import ENDED, State
from grid.messages import shown


class UnexpectedAnswer(GridError):
    """The api's answer does not follow this contract."""


class Substation(NamedTuple):
    """A substation as the api lists it; what is unknown is None.

    ``load`` are its sessions and jobs in flight; powers are in kW; ``limit`` is the most sessions
    that an operator allows.
    """

    id: str
    connectors: float | None
    eligible: bool
    load: float | None = None
    rated_power_kw: float | None = None
    background_power_kw: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one request. ``job`` is its id if it was accepted, else None.

    ``seconds`` passed from when it was due until its final answer, ``late_seconds`` of them before
    it was first sent; ``due`` is when that was, in Unix seconds. ``loads`` and ``routed_to`` are
    the dispatcher's own, for the log line alone; ``reason`` says why there is no ``routed_to``, or
    why the request was refused.
    """

    job: str | None
    seconds: float
    retries: int = 0
    routed_to: str | None = None
    loads: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    due: float | None = None
    late_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the event log has it; times are Unix seconds, None if it did not happen.

    ``queued`` is since when it waits: its request, or the start that it asked for, unless it ended
    before that. ``ended`` is when it reached a state that ends it, ``expected`` when one that waits
    is expected to begin. ``eligible`` is empty if any substation will do. ``requested_kwh``,
    ``power_kw``, ``departs``, ``priority``, ``max_wait`` (seconds) and ``tenant`` are what the
    request said; ``delivered_kwh`` is what its session has delivered, as the substation says.
    """

    id: str
    status: State
    substation: str | None = None
    queued: float | None = None
    assigned: float | None = None
    charging: float | None = None
    ended: float | None = None
    duplicates: int = 0
    eligible: tuple[str, ...] = ()
    expected: float | None = None
    requested_kwh: float | None = None
    power_kw: float | None = None
    departs: float | None = None
    priority: int = 0
    delivered_kwh: float | None = None
    max_wait: float | None = None
    tenant: str | None = None

    @property
    def has_ended(self) -> bool:
        """Return whether the job has reached a final state."""
        return self.status in ENDED

    @property
    def expires_at(self) -> float | None:
        """Return when it would have ended if it had not begun; None if it might wait forever."""
        if self.max_wait is None or self.queued is None:
            return self.departs
        waited = self.queued + self.max_wait
        return waited if self.departs is None else min(waited, self.departs)

    @property
    def session_seconds(self) -> float | None:
        """Return how long its session took, if it was completed and that is known."""
        if self.status is not State.COMPLETED or self.charging is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.charging)

    @property
    def whole_seconds(self) -> float | None:
        """Return how long its session would have taken if its vehicle had stayed."""
        took, got, wanted = self.session_seconds, self.delivered_kwh, self.requested_kwh
        if took is None or not got or not wanted or self.departs is None:
            return took
        return took * max(1.0, wanted / got)


def job(value: Mapping[str, Any]) -> Job:
    """Read a job from the api's JSON object.

    Raise ``UnexpectedAnswer`` if it is none.
    """
    try:
        times = {state: _unix(text) for state, text in value["times"].items() if text is not None}
        request = value.get("request") or {}
        queued = times.get(State.QUEUED, request.get("requested_at"))
        ended = min((times[state] for state in ENDED if state in times), default=None)
        return Job(
            id=value["id"],
            status=State(value["status"]),
            substation=value["substation"],
            queued=_waits_since(queued, ended, value),
            assigned=times.get(State.ASSIGNED),
            charging=times.get(State.CHARGING),
            ended=ended,
            duplicates=value["duplicates"],
            eligible=tuple(request.get("eligible_substations") or ()),
            expected=_unix_or_none(value.get("expected_start")),
            requested_kwh=request.get("requested_energy_kwh"),
            power_kw=request.get("requested_power_kw"),
            departs=_unix_or_none(request.get("departure_time")),
            priority=request.get("priority") or 0,
            delivered_kwh=value.get("energy_kwh"),
            max_wait=request.get("max_wait_seconds"),
            tenant=request.get("tenant"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedAnswer(f"not a job: {shown(value)}: {error!r}") from error


def decision(value: Mapping[str, Any]) -> tuple[str | None, dict[str, float]]:
    """Return where a job was sent, and the loads the dispatcher saw then, from its JSON object.

    Raise ``UnexpectedAnswer`` if it is none.
    """
    try:
        candidates = (value.get("decision") or {}).get("candidates") or ()
        return value["substation"], {one["substation"]: one["load"] for one in candidates}
    except (KeyError, TypeError, AttributeError) as error:
        raise UnexpectedAnswer(f"not a job: {shown(value)}: {error!r}") from error


def _waits_since(
    queued: float | None, ended: float | None, value: Mapping[str, Any]
) -> float | None:
    """Return since when a job waits that was queued then: not before it may begin."""
    reservation = value.get("reservation") or {}
    starts = [(value.get("request") or {}).get("earliest_start")]
    if reservation.get("granted"):
        starts.append(reservation.get("start"))
    known = [_unix(each) for each in starts if each is not None]
    if queued is None or not known:
        return queued
    since = max(queued, *known)
    return queued if ended is not None and ended < since else since


def _unix_or_none(text: str | None) -> float | None:
    return None if text is None else _unix(text)


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
