"""The models of requests and answers, which the OpenAPI document shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from api.jobs.job import MAX_FURTHER_COMPLETIONS, Job
from grid import kinds, messages
from grid.controls import Availability
from grid.events import MAX_FIGURE, Event, State, is_time
from grid.kinds import Snapshot
from grid.messages import ChargeRequest

MAX_LIST: Final = 1000
MAX_FIELDS: Final = 256  # of an object that is sent
# `format: date-time` also checks days and months; a leap second has no Unix time of its own
MOMENT_PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-5][0-9]([.,][0-9]+)?)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
_MOMENT: Final = re.compile(MOMENT_PATTERN)
_DIGITS: Final = re.compile(r"[0-9]+")


def _with_offset(value: object) -> object:
    """Reject what else could be read as a time: a number, a date, a time without an offset."""
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        return value
    raise ValueError("must be a time with its offset from UTC, like 2030-12-31T08:00:00Z")


def _whole(value: object) -> object:
    """Return a number without a fraction as an integer: JSON does not distinguish them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digits(value: object) -> object:
    """Reject other texts that Python reads as a whole number: +5, 1_000, 5.0."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("must be a whole number, in digits alone")
    return value


Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_with_offset),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": MOMENT_PATTERN}),
]
# the pattern is checked by ``ChargeRequest``, whose error says in words what is wrong
VehicleId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=messages.MAX_VEHICLE_ID,
        json_schema_extra={"pattern": messages.VEHICLE_PATTERN},
    ),
]
Energy = Annotated[float, Field(gt=0, le=messages.MAX_ENERGY_KWH, strict=True)]
Power = Annotated[float, Field(gt=0, le=messages.MAX_POWER_KW, strict=True)]
WHOLE: Final = BeforeValidator(_whole)
Priority = Annotated[int, Field(ge=0, le=messages.MAX_PRIORITY, strict=True), WHOLE]
SubstationId = Annotated[str, Field(pattern=messages.SUBSTATION_PATTERN)]
SubstationIds = Annotated[list[SubstationId], Field(min_length=1, max_length=messages.MAX_ELIGIBLE)]


class Strict(BaseModel):
    """The base of what a client sends; too many fields are rejected at once, not one by one.

    To name a hundred thousand invalid fields takes seconds, in which nobody else is answered.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _check_size(cls, value: object) -> object:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise PydanticCustomError(
                "too_many_fields", "must have at most {most} fields", {"most": MAX_FIELDS}
            )
        return value


class ChargeIn(Strict):
    """A charge request. Every field is optional."""

    vehicle_id: VehicleId | None = Field(
        default=None,
        description="Printable characters; the only space allowed is U+0020. No lone surrogates.",
    )
    requested_energy_kwh: Energy | None = None
    requested_power_kw: Power | None = None
    departure_time: Moment | None = Field(
        default=None,
        description="When the vehicle leaves, with its offset from UTC (RFC 3339): in the future, "
        "and before the year 10000 in UTC.",
    )
    priority: Priority = Field(default=0, description="9 is the most urgent.")
    eligible_substations: SubstationIds | None = Field(
        default=None,
        description="The only substations that may charge the vehicle; at least one must exist.",
    )

    def request(self, id: str, requested_at: float) -> ChargeRequest:
        """Return the request as it is published. Raise ``InvalidField`` if a value is wrong."""
        leaves = self.departure_time
        return ChargeRequest(
            id=id,
            requested_at=requested_at,
            vehicle_id=self.vehicle_id,
            requested_energy_kwh=self.requested_energy_kwh,
            requested_power_kw=self.requested_power_kw,
            departure_time=None if leaves is None else leaves.timestamp(),
            priority=self.priority,
            eligible_substations=tuple(self.eligible_substations or ()),
        )


class Details(BaseModel):
    """Where a request was sent, and the loads the dispatcher saw when it decided."""

    routed_to: str | None
    loads: dict[str, float] = Field(
        description="Sessions in progress and in flight, by substation, before this request."
    )
    reason: str | None


class Accepted(BaseModel):
    """A request that RabbitMQ has confirmed; it will not be lost."""

    id: str
    status: State
    details: Details


class AcceptedList(BaseModel):
    """The accepted requests of a list, in its order."""

    jobs: list[Accepted]


class ListedCharge(BaseModel):
    """A job: its state, the times at which it entered each state, and its substation."""

    id: str
    status: State
    substation: str | None
    attempt: int
    times: dict[State, datetime]
    duplicates: int = Field(
        description="How often it was completed again: at most "
        f"{MAX_FURTHER_COMPLETIONS} are counted."
    )
    request: Mapping[str, Any]
    reason: str | None
    energy_kwh: float | None = Field(
        description="What its session has delivered, once it has ended."
    )


class Charge(ListedCharge):
    """A job in full: with the decision that sent it to its substation."""

    decision: Mapping[str, Any] | None


class ChargeList(BaseModel):
    """A page of jobs, the oldest first; ``next`` is the ``after`` of the next page, if any."""

    charges: list[ListedCharge]
    next: str | None


class JobFilter(BaseModel):
    """The job filter of a list, and its page; any other parameter is an error."""

    model_config = ConfigDict(extra="forbid")

    status: State | None = None
    substation: SubstationId | None = None
    limit: Annotated[int, BeforeValidator(_digits)] = Field(default=100, ge=1, le=MAX_LIST)
    after: Annotated[str, Field(pattern=messages.ID_PATTERN)] | None = Field(
        default=None, description="The id of the last job of the page before."
    )


class Substation(BaseModel):
    """A substation as the dispatcher sees it."""

    id: str = Field(validation_alias="substation")
    load: float
    connectors: float
    utilisation: float
    gauge: float
    gauge_age_seconds: float | None
    outstanding: float
    power_kw: float | None = Field(
        default=None,
        description="The power of all consumers and of the sessions in flight, in kW.",
    )
    rated_power_kw: float | None = None
    eligible: bool
    reason: str | None
    state: Availability = Availability.AVAILABLE
    limit: int | None = Field(
        default=None, description="The maximum number of sessions that an operator allows."
    )


class SubstationList(BaseModel):
    """All substations, as the dispatcher described them at ``as_of``."""

    as_of: datetime | None
    substations: list[Substation]


def accepted(job: Job) -> Accepted:
    """Return a job as the answer to its request."""
    decision = job.decision or {}
    details = Details(
        routed_to=job.substation,
        loads=_loads(decision.get("candidates")),
        reason=job.reason or _text(decision.get("reason")),
    )
    return Accepted(id=job.id, status=job.status, details=details)


def _loads(candidates: object) -> dict[str, float]:
    """Return the candidates' loads; anything else in the log's record is ignored."""
    rows = (
        [each for each in candidates if isinstance(each, dict)]
        if isinstance(candidates, list)
        else []
    )
    pairs = ((each.get("substation"), each.get("load")) for each in rows)
    return {
        name: load
        for name, load in pairs
        if isinstance(name, str) and isinstance(load, int | float) and abs(load) <= MAX_FIGURE
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def substations(event: Event) -> list[Substation]:
    """Return the substations of a dispatcher's snapshot; an invalid row is ignored."""
    found = []
    for row in Snapshot(event.detail).rows or ():
        with suppress(ValidationError):
            found.append(Substation.model_validate(row))
    return found


def charge(job: Job) -> Charge:
    """Return a job in full."""
    decision = job.decision
    if decision is not None:
        decision = kinds.explanation(decision)  # the time of the request is in `times`, as a date
    return Charge(**_listed(job), decision=decision)


def listed(job: Job) -> ListedCharge:
    """Return a job as a list shows it."""
    return ListedCharge(**_listed(job))


def _listed(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status,
        "substation": job.substation,
        "attempt": job.attempt,
        "times": {state: moment(at) for state, at in job.times.items()},
        "duplicates": job.duplicates,
        "energy_kwh": job.energy_kwh,
        "request": _request(job.request),
        "reason": job.reason,
    }


def _request(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the client's own fields, as the client wrote them."""
    shown = {name: fields[name] for name in ChargeIn.model_fields if name in fields}
    leaves = shown.get("departure_time")
    if is_time(leaves):
        shown["departure_time"] = moment(leaves)
    return shown  # any other value in the log is shown as it is


def moment(at: float) -> datetime:
    """Return Unix seconds as a time in UTC."""
    return datetime.fromtimestamp(at, UTC)
