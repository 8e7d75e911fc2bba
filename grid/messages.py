"""A charge request as a message: one immutable value, one JSON form, one error for all else.

The form is versioned. Within a version, fields may be added: a reader ignores those it does not
know, so that services can be upgraded one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

from grid import wire
from grid.errors import InvalidField, MalformedMessage
from grid.quoting import shown as shown  # noqa: PLC0414 - from here, too

VERSION: Final = 1
MAX_BODY_BYTES: Final = 128 * 1024  # the largest request the limits below allow takes 68 kB
MAX_VEHICLE_ID: Final = 64
MAX_ENERGY_KWH: Final = 10_000.0
MAX_POWER_KW: Final = 4_000.0  # the megawatt charging system ends at 3.75 MW
MAX_PRIORITY: Final = 9
DEFAULT_POWER_KW: Final = 7.4  # one phase at 32 A: for a request that names no power
MAX_ELIGIBLE: Final = 100
MAX_WAIT_SECONDS: Final = 31_536_000.0  # a year
MAX_UNIX_TIME: Final = 253_402_300_799.0  # the last second of the year 9999

ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$"
SUBSTATION_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
# Control and format characters, noncharacters, spaces other than the plain one, private use.
# Python's ``str.isprintable`` changes with its version, and no other language has it: a pattern
# is the same for every service, and can be part of the OpenAPI document.
_UNPRINTABLE: Final = (
    r"\u0000-\u001f\u007f-\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ue000-\uf8ff\ufdd0-\ufdef\ufeff\ufff0-\ufffb"
    r"\ufffe\uffff"
)
VEHICLE_PATTERN: Final = f"^[^{_UNPRINTABLE}]{{1,{MAX_VEHICLE_ID}}}$"
_ID = ID_PATTERN[:-1] + r"\Z"  # `$` would take an end of line as well
_SUBSTATION = SUBSTATION_PATTERN[:-1] + r"\Z"
# lone surrogates: no JSON that another program writes has them
_VEHICLE = rf"^[^{_UNPRINTABLE}\ud800-\udfff]{{1,{MAX_VEHICLE_ID}}}\Z"

JobId: TypeAlias = Annotated[str, Meta(pattern=_ID)]
SubstationId: TypeAlias = Annotated[str, Meta(pattern=_SUBSTATION)]
VehicleId: TypeAlias = Annotated[str, Meta(pattern=_VEHICLE)]
Tenant: TypeAlias = Annotated[str, Meta(pattern=_ID)]
Priority: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_PRIORITY)]
SubstationIds: TypeAlias = Annotated[tuple[SubstationId, ...], Meta(max_length=MAX_ELIGIBLE)]

_matches_id = re.compile(_ID).match
_matches_substation = re.compile(_SUBSTATION).match


class _Limit(NamedTuple):
    """The values that a field may have, as msgspec checks them, and the error for any other."""

    type: Any
    problem: Callable[[object], str]


def _number(most: float) -> _Limit:
    def problem(value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        return f"must be above 0 and at most {most:g}"

    whole, other = Meta(gt=0, le=int(most)), Meta(gt=0.0, le=most)
    return _Limit(Annotated[int, whole] | Annotated[float, other], problem)


def _eligible(value: object) -> str:
    if not isinstance(value, tuple) or len(value) > MAX_ELIGIBLE:
        return f"must be a list of at most {MAX_ELIGIBLE} substations' names"
    return "must be names of 1 to 64 letters, digits or _ -"


_LIMITS: Final[Mapping[str, _Limit]] = {
    "id": _Limit(JobId, lambda _: "must be 1 to 64 letters, digits or . _ ~ -"),
    "requested_at": _number(MAX_UNIX_TIME),
    "vehicle_id": _Limit(
        VehicleId, lambda _: f"must be 1 to {MAX_VEHICLE_ID} printable characters"
    ),
    "requested_energy_kwh": _number(MAX_ENERGY_KWH),
    "requested_power_kw": _number(MAX_POWER_KW),
    "departure_time": _number(MAX_UNIX_TIME),
    "priority": _Limit(Priority, lambda _: f"must be a whole number from 0 to {MAX_PRIORITY}"),
    "eligible_substations": _Limit(SubstationIds, _eligible),
    "tenant": _Limit(Tenant, lambda _: "must be 1 to 64 letters, digits or . _ ~ -"),
    "max_wait_seconds": _number(MAX_WAIT_SECONDS),
    "earliest_start": _number(MAX_UNIX_TIME),
    "reserve": _Limit(bool, lambda _: "must be true or false"),
}
_NEEDED: Final = ("id", "requested_at")


class ChargeRequest(
    Struct, frozen=True, gc=False, omit_defaults=True, tag_field="version", tag=VERSION
):
    """A client's request for charging.

    ``id`` names the job for its whole life; ``requested_at`` is when the api accepted it. Times are
    Unix seconds, energy is in kWh, power in kW. ``eligible_substations`` is empty if any will do.
    Clients share the capacity by ``tenant``. The job ends as expired if it waits for longer than
    ``max_wait_seconds``. It does not begin before ``earliest_start``; if it is to ``reserve``, a
    start is promised to it, or refused.
    The constructor raises ``InvalidField`` for a value outside the contract.
    """

    id: str
    requested_at: int | float
    vehicle_id: str | None = None
    requested_energy_kwh: int | float | None = None
    requested_power_kw: int | float | None = None
    departure_time: int | float | None = None
    priority: int = msgspec.field(default_factory=int)  # a plain default would omit 0
    eligible_substations: tuple[str, ...] = ()
    tenant: str | None = None
    max_wait_seconds: int | float | None = None
    earliest_start: int | float | None = None
    reserve: bool = False

    def __post_init__(self) -> None:
        try:
            msgspec.convert(astuple(self), _Checked)
        except msgspec.ValidationError:
            raise _invalid_field(self) from None
        if type(self.eligible_substations) is not tuple:  # msgspec accepts a list as well
            raise _invalid_field(self)

    @property
    def power_kw(self) -> float:
        """Return the power its session draws, in kW."""
        return self.requested_power_kw or DEFAULT_POWER_KW

    @property
    def expires_at(self) -> float | None:
        """Return when it expires if it still waits (Unix seconds); None if it never does."""
        ends = [each for each in (self.departure_time, self.waits_until) if each is not None]
        return min(ends, default=None)

    @property
    def waits_from(self) -> float:
        """Return from when on it waits (Unix seconds): its request, or its earliest start."""
        earliest = self.earliest_start
        return self.requested_at if earliest is None else max(self.requested_at, earliest)

    @property
    def waits_until(self) -> float | None:
        """Return when it has waited for its longest (Unix seconds); None if it may forever."""
        patience = self.max_wait_seconds
        return None if patience is None else self.waits_from + patience

    def fields(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON-ready values."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        del fields["version"]
        return fields

    def encode(self) -> bytes:
        """Return the JSON form: an object with ``version`` and every field that is set."""
        return wire.encode(self)


# The fields as msgspec checks them: all at once, in half the time of a loop over them, and as an
# array, in half the time that it takes to look each up by its name.
_Checked: Final = msgspec.defstruct(
    "_Checked",
    [
        (name, limit.type if name in _NEEDED else limit.type | None)
        for name, limit in _LIMITS.items()
    ],
    array_like=True,
    gc=False,
)
_HEAD: Final = f'{{"version":{VERSION},'.encode()
_DECODER: Final = msgspec.json.Decoder(ChargeRequest)


def decode(body: bytes) -> ChargeRequest:
    """Return the request that the bytes of a message hold.

    Raise ``MalformedMessage`` for anything that is not a request of this version.
    """
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessage(f"the body has {len(body)} bytes, the limit is {MAX_BODY_BYTES}")
    if body.startswith(_HEAD):  # as `encode` writes it; msgspec does not require a version
        try:
            return _DECODER.decode(body.decode())
        except (*wire.UNREADABLE, InvalidField):
            pass  # it is no request, or holds what only `json` reads
    fields = _object(body)
    version = fields.get("version")
    if version != VERSION or isinstance(version, bool):
        raise MalformedMessage(f"version is {shown(version)}, this reader knows {VERSION}")
    return of_fields(fields)


def of_fields(fields: Mapping[str, Any]) -> ChargeRequest:
    """Return the request that has these fields, as ``ChargeRequest.fields`` returns them.

    Raise ``MalformedMessage`` if they are not a request's.
    """
    try:
        return ChargeRequest(**_known(fields))
    except (InvalidField, TypeError) as error:
        raise MalformedMessage(str(error)) from error


def valid_substation_id(name: object) -> bool:
    """Return whether a name can be a substation's: it becomes part of a queue's name."""
    return isinstance(name, str) and _matches_substation(name) is not None


def valid_job_id(name: object) -> bool:
    """Return whether a name can be a job's id: it becomes part of an address."""
    return isinstance(name, str) and _matches_id(name) is not None


def name_of(id: str | None, body: bytes) -> str:
    """Return the name for a message that is no request: its own id, or one made of its bytes.

    ``id`` may be anything that a stranger wrote. The same message has the same name each time.
    """
    if id is not None and valid_job_id(id):
        return id
    return f"unnamed-{sha256(body).hexdigest()[:32]}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedMessage(f"the body is not a JSON object, got {shown(value)}")
    return value


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    for name in _NEEDED:
        if fields.get(name) is None:
            raise MalformedMessage(f"{name} is missing")
    known = {name: fields[name] for name in _LIMITS if fields.get(name) is not None}
    if isinstance(known.get("eligible_substations"), list):
        known["eligible_substations"] = tuple(known["eligible_substations"])
    return known


def _invalid_field(request: ChargeRequest) -> InvalidField:
    """Return what is wrong with a request: its first invalid field."""
    values = {name: getattr(request, name) for name in _LIMITS}
    name = next(name for name, value in values.items() if not _fits(name, value))
    return InvalidField(name, f"{_LIMITS[name].problem(values[name])}, got {shown(values[name])}")


def _fits(name: str, value: object) -> bool:
    if value is None:
        return name not in _NEEDED
    try:
        msgspec.convert(value, _LIMITS[name].type)
    except msgspec.ValidationError:
        return False
    return name != "eligible_substations" or type(value) is tuple
