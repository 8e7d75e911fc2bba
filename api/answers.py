"""A job as every answer shows it: one shape, from its request to its end. Pure.

The classes describe it, for the OpenAPI document; the functions make it, ready for JSON. The event
log may have been written by another version or program: what is not as described is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from api.forecast import Forecast
from api.jobs.job import MAX_FURTHER_COMPLETIONS, Booked, Job
from api.jobs.projection import Projection
from api.last_heard import LastHeard
from api.readiness import Readiness
from api.substations import need_of
from grid import kinds, wire
from grid.events import MAX_FIGURE, State, is_time
from grid.times import to_the_second
from scheduling.reasons import is_eligible

# Answers are made here, and not validated: pydantic needs their schemas for the OpenAPI document
# alone. Made for each route, they would take most of the time that it takes to build the app.
ONLY_DOCUMENTED: Final = ConfigDict(defer_build=True)
EXAMPLE: Final = {
    "id": "0b4e6a52-3f5c-4b8e-9d55-0a4c53d0a6f1",
    "status": "charging",
    "substation": "substation2",
    "attempt": 1,
    "times": {
        "queued": "2030-05-01T06:00:00.120000Z",
        "assigned": "2030-05-01T06:00:00.128000Z",
        "charging": "2030-05-01T06:00:00.135000Z",
    },
    "duplicates": 0,
    "request": {"vehicle_id": "bus 12", "requested_energy_kwh": 80.0, "priority": 0},
    "reservation": None,
    "reason": None,
    "place": None,
    "expected_start": None,
    "expected_start_basis": None,
    "will_be_ready": True,
    "expected_energy_kwh": 80.0,
    "power_kw": 7.4,
    "energy_kwh": None,
    "details": {
        "routed_to": "substation2",
        "loads": {"substation1": 1.0, "substation2": 0.0},
        "reason": "lowest utilisation after placing it: 0.02, drawn among 1",
    },
}


class Times(TypedDict, total=False):
    """When the job entered each of its states; a state that it has not entered is left out."""

    queued: datetime
    assigned: datetime
    charging: datetime
    completed: datetime
    cancelled: datetime
    expired: datetime
    parked: datetime


class ChargeFields(TypedDict, total=False):
    """The fields of the request that the client set, and its priority."""

    vehicle_id: str
    requested_energy_kwh: float
    requested_power_kw: float
    departure_time: datetime
    priority: int
    eligible_substations: list[str]
    tenant: str
    max_wait_seconds: float
    earliest_start: datetime
    reserve: bool


class Reservation(TypedDict):
    """What a job that asked for a start was told last."""

    granted: Annotated[
        bool,
        Field(
            description="Whether the start is promised. If not: a job that has expired was refused "
            "one, and this is the nearest start that was free; one that is queued could not be "
            "sent at its promised start, and is promised another one as soon as there is one."
        ),
    ]
    substation: Annotated[
        str | None, Field(description="Where it begins; null if there was no other start.")
    ]
    start: Annotated[
        datetime | None, Field(description="When it begins; null if there was no other start.")
    ]


class Details(TypedDict):
    """Where a request was sent, and the loads the dispatcher saw when it decided.

    Null and empty while it is queued.
    """

    routed_to: str | None
    loads: NotRequired[
        Annotated[
            dict[str, float],
            Field(
                description="Sessions in progress and in flight, by substation, before this "
                "request; left out in a list."
            ),
        ]
    ]
    reason: Annotated[
        str | None, Field(description="Why it was sent there, or ended otherwise than completed.")
    ]


class Candidate(TypedDict, total=False):
    """A substation as the decision saw it."""

    substation: str
    load: float
    connectors: float
    utilisation: float
    gauge: float
    gauge_age_seconds: float | None
    outstanding: float
    power_kw: float
    rated_power_kw: float | None
    state: str
    limit: float | None
    power_limit_kw: float | None
    power_limit_until: datetime | None
    power_limit_source: str | None
    power_limit: str | None
    next_power_limit_kw: float | None
    next_power_limit_from: datetime | None
    next_power_limit: str | None
    eligible: Annotated[
        bool,
        Field(description="Whether jobs like this one are sent there, once there is capacity."),
    ]
    reason: Annotated[str | None, Field(description="Why it could not go there just then.")]


class Decision(TypedDict, total=False):
    """Why the job was sent to its substation: the candidates as they were just before."""

    policy: str
    reason: str
    candidates: list[Candidate]


@with_config(ONLY_DOCUMENTED)
class Charge(TypedDict):
    """A job: a request that RabbitMQ has confirmed, which will not be lost.

    The answer that accepts a new request without waiting for the decision (`POST /charges`, and
    `POST /charge` with `Prefer: respond-async`) comes before it is known whether the job waits:
    there `reason`, `place` and `expected_start` are null. Every other answer has them of a job that
    waits.
    """

    id: str
    status: State
    substation: Annotated[
        str | None, Field(description="The one that charges or charged it, or it was sent to.")
    ]
    attempt: Annotated[int, Field(description="How often it was sent to a substation.")]
    times: Times
    duplicates: Annotated[
        int,
        Field(
            description="How often it was completed again: at most "
            f"{MAX_FURTHER_COMPLETIONS} are counted."
        ),
    ]
    request: ChargeFields
    reservation: Annotated[
        Reservation | None,
        Field(
            description="The start that it is promised, also once it has begun or ended, or why it "
            "is refused; null if it asked for none, or has no answer yet. A promise may be "
            "replaced by another one."
        ),
    ]
    reason: Annotated[
        str | None,
        Field(
            description="Why it waits, or why it ended otherwise than completed; null if it does "
            "neither, or that is not known yet."
        ),
    ]
    expected_start: Annotated[
        datetime | None,
        Field(
            description="When a job that waits will probably begin to charge: a promised start is "
            "that; null if it does not wait, or nobody can say, or that is not known yet."
        ),
    ]
    expected_start_basis: Annotated[
        str | None,
        Field(
            description="How that was estimated, or `promised`, or `late` if it should have begun "
            "at its promised start: then it is expected now."
        ),
    ]
    place: Annotated[
        int | None,
        Field(
            description="Its place among the jobs that wait, from 1, by priority, latest start "
            "and age, of tenants in turn, and last of its priority if it cannot be ready any more; "
            "null if it does not wait, or may not begin yet, or reserves a start, or that is not "
            "known yet, or so many wait that their order is not kept."
        ),
    ]
    will_be_ready: Annotated[
        bool | None,
        Field(
            description="Whether it will have the requested energy at its departure, as far as "
            "can be foretold; null if its request does not name both, or once it has ended."
        ),
    ]
    expected_energy_kwh: Annotated[
        float | None,
        Field(description="What it will have by then, in kWh: all of it, or as much as it can."),
    ]
    power_kw: Annotated[
        float | None,
        Field(description="What its session draws, or drew until its end; null if none has begun."),
    ]
    energy_kwh: Annotated[
        float | None, Field(description="What its session has delivered, once it has ended.")
    ]
    details: Details
    decision: NotRequired[
        Annotated[
            Decision | None,
            Field(description="Shown by GET /charge/{id} alone; null until it was sent."),
        ]
    ]


@with_config(ONLY_DOCUMENTED)
class AcceptedList(TypedDict):
    """The accepted requests of a list, in its order."""

    jobs: list[Charge]


@with_config(ONLY_DOCUMENTED)
class ChargeList(TypedDict):
    """A page of jobs; ``next`` is the ``after`` of the next page, if there is one."""

    charges: list[Charge]
    next: str | None


class Wait(NamedTuple):
    """Why a job waits, its place among those that do, and when it will probably begin.

    ``readiness`` is what it will have at its departure, also of one that does not wait any more.
    """

    reason: str | None
    place: int | None
    forecast: Forecast | None
    readiness: Readiness | None = None


PROMISED: Final = "promised"  # the basis of a start that is expected
LATE: Final = "late"  # the same, once the promised start has passed
NO_WAIT: Final = Wait(None, None, None)
_UNDER_WAY: Final = frozenset({State.ASSIGNED, State.CHARGING})
_DECISION: Final = TypeAdapter(Decision)
_NOTHING: Final[Mapping[str, Any]] = {}


def wait_of(job: Job, projection: Projection, now: float, heard: LastHeard) -> Wait:
    """Return why a job waits at ``now`` (Unix seconds), and what it will have at its departure.

    ``heard`` says when the dispatcher was heard last.
    """
    request = job.request
    if job.status is not State.QUEUED:
        if job.status not in _UNDER_WAY or request.get("departure_time") is None:
            return NO_WAIT
        begins_at = job.times.get(State.CHARGING, now)
        return Wait(None, None, None, projection.readiness(request, begins_at, now, heard))
    reason = _reason_to_wait(job, request, projection, now, heard)
    if job.booked is not None and not job.booked.granted:
        return Wait(reason, None, None)  # nobody knows yet when it has another start
    turn = projection.place_in_turn(job, now)
    place = turn if projection.has_turn(job) else None
    forecast = _forecast(job, turn, projection, now, heard)
    if forecast is not None:
        ready = projection.readiness(request, forecast.at, now, heard)
    else:
        opens_at = max(projection.substations.opens_at(request, now), job.may_begin_at)
        ready = projection.readiness(request, opens_at, now, heard)
        if ready is not None and ready.will_be_ready:
            ready = None  # if it begins in time, but nobody can say when it begins
    return Wait(reason, place, forecast, ready)


def _reason_to_wait(
    job: Job, request: Mapping[str, Any], projection: Projection, now: float, heard: LastHeard
) -> str:
    """Return why a job waits; once it may begin, a dispatcher that is silent comes first."""
    substations, begins_at = projection.substations, job.may_begin_at
    silence = substations.silence(heard)
    told = job.booked
    if told is not None and told.granted and (now < begins_at or silence is None):
        start = f"its start at {told.substation}"
        when = to_the_second(begins_at)
        if now >= begins_at:
            return f"{start} was promised for {when}, and is late"
        again = f" ({told.reason})" if told.reason else ""
        return f"{start} is promised for {when}{again}"
    if told is not None and not told.granted and silence is None:
        return told.reason or "no start is promised to it"
    if request.get("reserve") is True and silence is None:
        return "it is not known yet whether it has the start that it asked for"
    if now < job.earliest_start:
        return f"it is not to begin before {to_the_second(job.earliest_start)}"
    return substations.reason_to_wait(request, heard)


def _forecast(
    job: Job, place: int | None, projection: Projection, now: float, heard: LastHeard
) -> Forecast | None:
    """Return when a job that waits will probably begin; None if nobody can say.

    ``place`` is that which it has, or would have if it might begin now.
    """
    substations = projection.substations
    if (promise := job.promise) is not None:
        if now < promise.start:
            return Forecast(promise.start, PROMISED)
        return Forecast(now, LATE) if substations.silence(heard) is None else None
    request = job.request
    if place is None or request.get("reserve") is True:
        return None
    if substations.kept_for(request) is not None or substations.kept_for_promises(request):
        return None
    found = projection.forecaster(request, now, heard).start(place)
    return None if found is None else Forecast(max(found.at, job.may_begin_at), found.how)


def charge(job: Job, wait: Wait = NO_WAIT) -> Charge:
    """Return a job as the answer to its request."""
    shown = listed(job, wait)
    _add_loads(shown["details"], job.decision or _NOTHING)
    return shown


def full_charge(job: Job, wait: Wait = NO_WAIT) -> Charge:
    """Return a job with the decision that sent it to its substation."""
    shown, decision = listed(job, wait), job.decision
    _add_loads(shown["details"], decision or _NOTHING)
    shown["decision"] = None if decision is None else _decision(decision)
    return shown


def listed(job: Job, wait: Wait = NO_WAIT) -> Charge:
    """Return a job as a list shows it: without what only its decision tells."""
    substation, reason, forecast = job.substation, job.reason, wait.forecast
    ready = wait.readiness
    request, times = job.request, job.times
    return {
        "id": job.id,
        "status": job.status,
        "substation": substation,
        "attempt": job.attempt,
        "times": {state: moment(at) for state, at in times.items()},  # type: ignore[typeddict-item]
        "duplicates": job.duplicates,
        "request": request_fields(request),
        "reservation": reservation(job.booked),
        "reason": wait.reason or reason,
        "place": wait.place,
        "expected_start": None if forecast is None else moment(forecast.at),
        "expected_start_basis": None if forecast is None else forecast.how,
        "will_be_ready": None if ready is None else ready.will_be_ready,
        "expected_energy_kwh": None if ready is None else ready.energy_kwh,
        "power_kw": _power_kw(job, request, times),
        "energy_kwh": job.energy_kwh,
        "details": {"routed_to": substation, "reason": reason},
    }


def encode(answer: Mapping[str, Any]) -> bytes:
    """Return an answer as JSON."""
    return wire.encode(answer)


def moment(at: float) -> datetime:
    """Return Unix seconds as a time in UTC."""
    return datetime.fromtimestamp(at, UTC)


def request_fields(fields: Mapping[str, Any]) -> ChargeFields:
    """Return the client's own fields, as the client wrote them."""
    found: dict[str, Any] = {}
    for name, is_right in _IS_RIGHT.items():
        value = fields.get(name)
        if value is not None and is_right(value):
            found[name] = value
    for name in ("departure_time", "earliest_start"):
        if (at := found.get(name)) is not None:
            found[name] = moment(at)
    return found  # type: ignore[return-value]  # checked field by field


def reservation(booked: Booked | None) -> Reservation | None:
    """Return what a job was told of its start, as it is shown."""
    if booked is None:
        return None
    where = booked.substation or None
    start = None if where is None else moment(booked.start)
    return {"granted": booked.granted, "substation": where, "start": start}


def _power_kw(job: Job, request: Mapping[str, Any], times: Mapping[State, float]) -> float | None:
    """Return what a job's session draws: a substation charges at the power of the request."""
    has_session = State.CHARGING in times or State.COMPLETED in times
    return need_of(request).power_kw if has_session and job.queued is not None else None


def _add_loads(details: Details, decision: Mapping[str, Any]) -> None:
    """Add what the decision says; until there is one, nothing."""
    details["loads"] = _loads(decision.get("candidates"))
    if details["reason"] is None:
        details["reason"] = _text(decision.get("reason"))


def _decision(decision: Mapping[str, Any]) -> Decision | None:
    """Return a decision, as it is in the log; None if its fields are not a decision's."""
    known = kinds.explanation(decision)  # the time of the request is in `times`, as a date
    try:
        found: Decision = _DECISION.validate_python(known)
    except ValidationError:
        return None
    for each in found.get("candidates", ()):
        if "eligible" in each:
            each["eligible"] = is_eligible(each.get("reason"))
    return found


def _loads(candidates: object) -> dict[str, float]:
    """Return the candidates' loads; anything else in the log's record is ignored."""
    if not isinstance(candidates, list):
        return {}
    rows = [each for each in candidates if isinstance(each, dict)]
    pairs = ((each.get("substation"), each.get("load")) for each in rows)
    return {
        name: load
        for name, load in pairs
        if isinstance(name, str) and isinstance(load, int | float) and abs(load) <= MAX_FIGURE
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _is_number(value: object) -> bool:
    kind = type(value)
    return (kind is float or kind is int) and abs(value) <= MAX_FIGURE  # type: ignore[arg-type]


def _are_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


_IS_RIGHT: Final[Mapping[str, Callable[[object], bool]]] = {
    "vehicle_id": lambda value: isinstance(value, str),
    "requested_energy_kwh": _is_number,
    "requested_power_kw": _is_number,
    "departure_time": is_time,
    "priority": lambda value: type(value) is int,
    "eligible_substations": _are_texts,
    "tenant": lambda value: isinstance(value, str),
    "max_wait_seconds": _is_number,
    "earliest_start": is_time,
    "reserve": lambda value: type(value) is bool,
}
