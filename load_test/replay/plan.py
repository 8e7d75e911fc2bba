"""Sessions as the requests of a run, their time compressed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Literal

from grid.errors import ConfigurationError
from grid.messages import ID_PATTERN, MAX_ENERGY_KWH, MAX_POWER_KW, VEHICLE_PATTERN
from load_test.plans.plan import Request
from load_test.replay.sessions import Session

HOUR: Final = 3600.0
_ENERGY_DIGITS: Final = 6  # of kWh
_is_tenant = re.compile(f"{ID_PATTERN[:-1]}\\Z").match
_is_vehicle = re.compile(f"{VEHICLE_PATTERN[:-1]}\\Z").match


@dataclass(frozen=True, slots=True)
class Replay:
    """How sessions become requests.

    ``speed`` is how many of their seconds pass in one; ``charge_speed`` the substations'
    ``CHARGE_SPEED``, by which a session's energy becomes its length: where it differs from the
    speed, energies are scaled so that the sessions take as long as they should. All charge at
    ``power_kw``. Arrivals are ``stretch`` times as far apart, stays as they are. The constructor
    raises ``ConfigurationError`` for a value that makes no sense.
    """

    speed: float
    charge_speed: float
    power_kw: float
    energy: Literal["delivered", "requested"] = "delivered"
    stretch: float = 1.0

    def __post_init__(self) -> None:
        for name in ("speed", "charge_speed", "power_kw", "stretch"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ConfigurationError(f"{name} must be above 0, got {value:g}")
        if self.power_kw > MAX_POWER_KW:
            raise ConfigurationError(
                f"power_kw must be at most {MAX_POWER_KW:g}, got {self.power_kw:g}"
            )

    def requests(self, sessions: Sequence[Session]) -> Iterator[Request]:
        """Yield a request for each session that takes any energy, the first one at once."""
        charged = [each for each in sessions if self.energy_kwh(each) > 0]
        start = charged[0].arrival if charged else 0.0
        for number, each in enumerate(charged):
            body: dict[str, Any] = {
                "vehicle_id": _vehicle(each.id, number),
                "requested_energy_kwh": self.energy_kwh(each),
                "requested_power_kw": self.power_kw,
            }
            if each.tenant is not None:
                body["tenant"] = each.tenant
            offset = self.stretch * (each.arrival - start) / self.speed
            yield Request(number, offset, body, each.stay_seconds / self.speed)

    def energy_kwh(self, session: Session) -> float:
        """Return what is requested for a session: no more than its stay has time for."""
        wanted = session.delivered_kwh
        if self.energy == "requested" and session.requested_kwh is not None:
            wanted = session.requested_kwh
        most = self.power_kw * session.stay_seconds / HOUR
        scale = self.charge_speed / self.speed
        return round(min(wanted, most) * scale, _ENERGY_DIGITS)

    def session_seconds(self, request: Request) -> float:
        """Return how long the session of a request takes where the substations are at speed."""
        energy = float(request.body["requested_energy_kwh"])
        return HOUR * energy / self.power_kw / self.charge_speed

    def check(self, requests: Sequence[Request]) -> None:
        """Raise ``ConfigurationError`` if there is nothing to replay, or a request is too large."""
        if not requests:
            raise ConfigurationError("it has no session that takes any energy")
        tenants = {str(each.body["tenant"]) for each in requests if "tenant" in each.body}
        if wrong := sorted(each for each in tenants if not _is_tenant(each)):
            raise ConfigurationError(
                f"a tenant must be 1 to 64 letters, digits or . _ ~ -, got {wrong[0]!r}"
            )
        largest = max(float(each.body["requested_energy_kwh"]) for each in requests)
        if largest > MAX_ENERGY_KWH:
            raise ConfigurationError(
                f"a session takes {largest:g} kWh, the limit is {MAX_ENERGY_KWH:g}: "
                "choose a lower --charge-speed"
            )


def _vehicle(id: str | None, number: int) -> str:
    """Return a session's id if a request can carry it, else one made of its number."""
    return id if id is not None and _is_vehicle(id) else f"session-{number + 1:06d}"
