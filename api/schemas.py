"""The models of what a client sends: bodies and queries, which the OpenAPI document shows."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from api.jobs.rows import JobQuery
from grid import messages
from grid.events import State
from grid.messages import ChargeRequest

MAX_LIST: Final = 1000
MAX_SEARCH: Final = 64  # characters, as many as an id or a vehicle has
MAX_WAIT: Final = 60  # seconds: proxies end a connection that is silent for longer
MAX_FIELDS: Final = 256  # of an object that is sent
# `format: date-time` also checks days and months; a leap second has no Unix time of its own
MOMENT_PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-5][0-9]([.,][0-9]+)?)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
_MOMENT: Final = re.compile(MOMENT_PATTERN)
_DIGITS: Final = re.compile(r"[0-9]+")
FIRST_TIME: Final = 1.0  # Unix seconds: a request has no time before
# a text, not a list: generators of clients write lists in several ways
STATUS_PATTERN: Final = "^({0})(,({0}))*$".format("|".join(State))
_STATUSES: Final = re.compile(STATUS_PATTERN)
_VEHICLE: Final = re.compile(messages.VEHICLE_PATTERN)


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
MaxWait = Annotated[float, Field(gt=0, le=messages.MAX_WAIT_SECONDS, strict=True)]
Reserve = Annotated[bool, Field(strict=True)]
Tenant = Annotated[str, Field(pattern=messages.ID_PATTERN)]
SubstationId = Annotated[str, Field(pattern=messages.SUBSTATION_PATTERN)]
SubstationIds = Annotated[list[SubstationId], Field(min_length=1, max_length=messages.MAX_ELIGIBLE)]


EXAMPLE: Final[JsonDict] = {
    "vehicle_id": "bus 12",
    "requested_energy_kwh": 80,
    "requested_power_kw": 22,
    "departure_time": "2030-05-01T08:00:00+02:00",
    "priority": 5,
    "eligible_substations": ["substation1", "substation2"],
    "max_wait_seconds": 1800,
}


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

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

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

    tenant: Tenant | None = Field(
        default=None,
        description="Whose request it is: among requests of the same priority, tenants share the "
        "capacity fairly. With a client's key it is the key's name, and may be left out.",
    )
    max_wait_seconds: MaxWait | None = Field(
        default=None,
        description="The job ends as expired if it has not begun so many seconds after its "
        "request, or its earliest start.",
    )
    earliest_start: Moment | None = Field(
        default=None,
        description="When its session may begin at the earliest, with its offset from UTC (RFC "
        "3339): before the departure, and at most 366 days ahead. In the past it means now.",
    )
    # null, not false: a generated client takes a field that has a default for one that is required
    reserve: Reserve | None = Field(
        default=None,
        description="Whether a start is to be promised to it, for which a connector and the power "
        "are kept free. With a departure, any start will do by which it is done in time; with an "
        "earliest start alone, exactly that; with neither, the first there is. If there is none, "
        "the job ends as expired, and its `reservation` is the nearest start that was free.",
    )

    def request(self, id: str, requested_at: float, tenant: str | None) -> ChargeRequest:
        """Return the request as it is published, of the tenant that it counts for.

        Raise ``InvalidField`` if a value is wrong.
        """
        leaves, earliest = self.departure_time, self.earliest_start
        return ChargeRequest(
            id=id,
            requested_at=requested_at,
            vehicle_id=self.vehicle_id,
            requested_energy_kwh=self.requested_energy_kwh,
            requested_power_kw=self.requested_power_kw,
            departure_time=None if leaves is None else leaves.timestamp(),
            priority=self.priority,
            eligible_substations=tuple(self.eligible_substations or ()),
            tenant=tenant,
            max_wait_seconds=self.max_wait_seconds,
            earliest_start=None if earliest is None else max(FIRST_TIME, earliest.timestamp()),
            reserve=bool(self.reserve),
        )


def _statuses(value: object) -> object:
    """Reject a list of states with any other word in it."""
    if isinstance(value, str) and not _STATUSES.fullmatch(value):
        raise ValueError(f"must be one or several of {', '.join(State)}, separated by commas")
    return value


def _flag(value: object) -> object:
    """Reject other texts that count as true or false: 1, on, yes."""
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value


def _vehicle(value: str) -> str:
    """Reject a vehicle that no request can have."""
    if not _VEHICLE.fullmatch(value):
        raise ValueError("must be printable characters; the only space allowed is U+0020")
    return value


Statuses = Annotated[
    str,
    BeforeValidator(_statuses),
    WithJsonSchema({"type": "string", "pattern": STATUS_PATTERN, "examples": ["queued,assigned"]}),
]
Digits = Annotated[int, BeforeValidator(_digits)]
Flag = Annotated[bool, BeforeValidator(_flag)]


class JobFilter(BaseModel):
    """The job filter of a list, and its page; any other parameter is an error."""

    model_config = ConfigDict(extra="forbid")

    vehicle_id: Annotated[VehicleId, AfterValidator(_vehicle)] | None = Field(
        default=None, description="The vehicle of the request."
    )
    tenant: Tenant | None = Field(default=None, description="Whose request it is.")
    search: Annotated[str, Field(min_length=1, max_length=MAX_SEARCH)] | None = Field(
        default=None, description="A part of the id or of the vehicle, in upper or lower case."
    )
    status: Statuses | None = Field(
        default=None, description="One or several states, separated by commas."
    )
    substation: SubstationId | None = Field(
        default=None, description="The substation that charges or charged it, or it was sent to."
    )
    promised: Flag | None = Field(
        default=None,
        description="`true`: only jobs that are queued until a start that is promised to them; "
        "`false`: only others.",
    )
    since: Moment | None = Field(
        default=None, description="Requested then or later. Write `+` as `%2B`."
    )
    until: Moment | None = Field(default=None, description="Requested before that.")
    order: Literal["asc", "desc"] = Field(
        default="asc", description="`asc`: the oldest first; `desc`: the newest first."
    )
    limit: Digits = Field(
        default=100, ge=1, le=MAX_LIST, description="The most jobs of a page; as CSV, of all."
    )
    after: Annotated[str, Field(pattern=messages.ID_PATTERN)] | None = Field(
        default=None, description="The id of the last job of the page before."
    )

    def query(self) -> JobQuery:
        """Return what is looked for."""
        statuses = frozenset(map(State, self.status.split(","))) if self.status else None
        if self.promised:  # the others need not be looked at
            statuses = frozenset({State.QUEUED}) & (statuses or frozenset(State))
        return JobQuery(
            statuses,
            self.substation,
            self.vehicle_id,
            None if self.since is None else self.since.timestamp(),
            None if self.until is None else self.until.timestamp(),
            newest_first=self.order == "desc",
            search=None if self.search is None else self.search.lower(),
            tenant=self.tenant,
            promised=self.promised,
        )


class JobWait(BaseModel):
    """How long an answer about a job waits, and for what; any other parameter is an error."""

    model_config = ConfigDict(extra="forbid")

    wait: Digits = Field(
        default=0,
        ge=0,
        le=MAX_WAIT,
        description="Seconds to wait until the job is in the state `until`, or one that follows.",
    )
    until: State = Field(
        default=State.COMPLETED,
        description="The state that `wait` waits for; each of those that end a job means any end.",
    )


class StatsFilter(BaseModel):
    """What the statistics are of, and by what; any other parameter is an error."""

    model_config = ConfigDict(extra="forbid")

    substation: SubstationId | None = Field(default=None, description="Only this one.")
    since: Moment | None = Field(default=None, description="Only the hours that end after that.")
    until: Moment | None = Field(default=None, description="Only the hours that begin before that.")
    by: Literal["substation,hour", "hour,substation"] | None = Field(
        default=None, description="Also by substation and hour together."
    )
