"""A charge request as it travels: one immutable value, one JSON form, one error for all else.

The form is versioned. Within a version, fields may be added: a reader ignores those it does not
know, so that services can be upgraded one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from grid.errors import InvalidField, MalformedMessage

VERSION: Final = 1
MAX_BODY_BYTES: Final = 128 * 1024  # the largest request the limits below allow takes 68 kB
MAX_VEHICLE_ID: Final = 64
MAX_ENERGY_KWH: Final = 10_000.0
MAX_POWER_KW: Final = 4_000.0  # the megawatt charging system ends at 3.75 MW
MAX_PRIORITY: Final = 9
DEFAULT_POWER_KW: Final = 7.4  # one phase at 32 A: what a request that names no power draws
MAX_ELIGIBLE: Final = 100
MAX_UNIX_TIME: Final = 253_402_300_799.0  # the last second of the year 9999

ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$"
SUBSTATION_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
# Control characters, spaces other than the plain one, what has no form of its own, private use.
# Python's own idea of it (``str.isprintable``) changes with its version, and no other language has
# it: a pattern holds for every service, and can stand in the OpenAPI document.
_UNPRINTABLE: Final = (
    r"\u0000-\u001f\u007f-\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ue000-\uf8ff\ufdd0-\ufdef\ufeff\ufff0-\ufffb"
    r"\ufffe\uffff"
)
VEHICLE_PATTERN: Final = f"^[^{_UNPRINTABLE}]{{1,{MAX_VEHICLE_ID}}}$"
# halves of a character: no JSON that another program writes has them
_VEHICLE = re.compile(rf"[^{_UNPRINTABLE}\ud800-\udfff]{{1,{MAX_VEHICLE_ID}}}")
_ID = re.compile(ID_PATTERN[:-1] + r"\Z")
_SUBSTATION = re.compile(SUBSTATION_PATTERN[:-1] + r"\Z")
_SHOWN = 80  # characters of a wrong value that an error repeats


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """What a client asks for.

    ``id`` names the job for its whole life; ``requested_at`` is when the api took it. Times are
    Unix seconds, energy is in kWh, power in kW. ``eligible_substations`` is empty if any will do.
    Raises ``InvalidField`` for a value outside the contract.
    """

    id: str
    requested_at: float
    vehicle_id: str | None = None
    requested_energy_kwh: float | None = None
    requested_power_kw: float | None = None
    departure_time: float | None = None
    priority: int = 0
    eligible_substations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None and (problem := check(value)) is not None:
                raise InvalidField(name, f"{problem}, got {shown(value)}")

    @property
    def power_kw(self) -> float:
        """The power its session draws, in kW."""
        return self.requested_power_kw or DEFAULT_POWER_KW

    @property
    def latest_start(self) -> float | None:
        """When charging must begin to be done by the departure, in Unix seconds; None without one.

        A request that names no energy is taken to need no time.
        """
        if self.departure_time is None:
            return None
        hours = (self.requested_energy_kwh or 0.0) / self.power_kw
        return self.departure_time - 3600.0 * hours

    def fields(self) -> dict[str, Any]:
        """Give the fields that are set, as JSON-ready values."""
        values = {name: getattr(self, name) for name in _CHECKS}
        return {name: value for name, value in values.items() if value not in (None, ())}

    def encode(self) -> bytes:
        """Give the JSON form: an object with ``version`` and every field that is set."""
        return json.dumps({"version": VERSION, **self.fields()}, separators=(",", ":")).encode()


def decode(body: bytes) -> ChargeRequest:
    """Read a request from the bytes of a message.

    Raises ``MalformedMessage`` for anything that is not a request of this version.
    """
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessage(f"the body has {len(body)} bytes, the limit is {MAX_BODY_BYTES}")
    fields = _object(body)
    version = fields.get("version")
    if version != VERSION or isinstance(version, bool):
        raise MalformedMessage(f"version is {shown(version)}, this reader knows {VERSION}")
    return of_fields(fields)


def of_fields(fields: Mapping[str, Any]) -> ChargeRequest:
    """Return the request that has these fields, as ``ChargeRequest.fields`` gives them.

    Raise ``MalformedMessage`` where they are no request's.
    """
    try:
        return ChargeRequest(**_known(fields))
    except (InvalidField, TypeError) as error:
        raise MalformedMessage(str(error)) from error


def shown(value: object) -> str:
    """Give a value as an error message repeats it: quoted, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def valid_substation_id(name: object) -> bool:
    """Tell whether a name can be a substation's: it becomes part of a queue's name."""
    return isinstance(name, str) and _SUBSTATION.match(name) is not None


def valid_job_id(name: object) -> bool:
    """Tell whether a name can be a job's id: it becomes part of an address."""
    return isinstance(name, str) and _ID.match(name) is not None


def name_of(id: str | None, body: bytes) -> str:
    """Give the name under which a message that is no request is known: its own, or one made of it.

    ``id`` may be anything a stranger wrote there. The same message has the same name each time.
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
    for name in ("id", "requested_at"):
        if fields.get(name) is None:
            raise MalformedMessage(f"{name} is missing")
    known = {name: fields[name] for name in _CHECKS if fields.get(name) is not None}
    if isinstance(known.get("eligible_substations"), list):
        known["eligible_substations"] = tuple(known["eligible_substations"])
    return known


def _number(above: float, most: float) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        # NaN compares false with everything, so the test is what must hold, not what must not
        return None if above < value <= most else f"must be above {above:g} and at most {most:g}"

    return check


def _id(value: object) -> str | None:
    return None if valid_job_id(value) else "must be 1 to 64 letters, digits or . _ ~ -"


def _vehicle(value: object) -> str | None:
    fits = isinstance(value, str) and _VEHICLE.fullmatch(value)
    return None if fits else f"must be 1 to {MAX_VEHICLE_ID} printable characters"


def _priority(value: object) -> str | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_PRIORITY
    return None if fits else f"must be a whole number from 0 to {MAX_PRIORITY}"


def _eligible(value: object) -> str | None:
    if not isinstance(value, tuple) or len(value) > MAX_ELIGIBLE:
        return f"must be a list of at most {MAX_ELIGIBLE} substations' names"
    if not all(map(valid_substation_id, value)):
        return "must be names of 1 to 64 letters, digits or _ -"
    return None


_CHECKS: Final[dict[str, Callable[[object], str | None]]] = {
    "id": _id,
    "requested_at": _number(0, MAX_UNIX_TIME),
    "vehicle_id": _vehicle,
    "requested_energy_kwh": _number(0, MAX_ENERGY_KWH),
    "requested_power_kw": _number(0, MAX_POWER_KW),
    "departure_time": _number(0, MAX_UNIX_TIME),
    "priority": _priority,
    "eligible_substations": _eligible,
}
