"""Whether a vehicle will have its energy when it leaves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from grid.events import is_time
from grid.messages import DEFAULT_POWER_KW, MAX_ENERGY_KWH

SECONDS_AN_HOUR: Final = 3600.0
ENERGY_DIGITS: Final = 3  # of kWh


class Readiness(NamedTuple):
    """Whether a session will deliver what was requested by the departure, and how much it will."""

    will_be_ready: bool
    energy_kwh: float


def readiness(
    request: Mapping[str, Any], begins_at: float, speed: float | None, mean_seconds: float | None
) -> Readiness | None:
    """Return what a job will have at its departure; None if its request does not say what it needs.

    Args:
        request: The fields of its request in the event log; a wrong one is ignored.
        begins_at: When its session begins, in Unix seconds.
        speed: How many seconds of charging pass in one; None where sessions do not take as long as
            their energy takes.
        mean_seconds: How long they take on average then; None where that is unknown, too.
    """
    departs, energy_kwh = request.get("departure_time"), _positive(request, "requested_energy_kwh")
    if not is_time(departs) or not 0 < energy_kwh <= MAX_ENERGY_KWH:
        return None
    seconds = mean_seconds if speed is None else charging_seconds(request, speed)
    if seconds is None:
        return None
    left = departs - begins_at
    if seconds <= left:
        return Readiness(will_be_ready=True, energy_kwh=energy_kwh)
    return Readiness(
        will_be_ready=False, energy_kwh=round(energy_kwh * max(0.0, left) / seconds, ENERGY_DIGITS)
    )


def charging_seconds(request: Mapping[str, Any], speed: float) -> float:
    """Return how long the energy of a request takes; 0 if it names none."""
    power_kw = _positive(request, "requested_power_kw") or DEFAULT_POWER_KW
    return SECONDS_AN_HOUR * _positive(request, "requested_energy_kwh") / power_kw / speed


def _positive(request: Mapping[str, Any], name: str) -> float:
    value = request.get(name)
    kind = type(value)
    return value if (kind is float or kind is int) and value > 0 else 0.0  # type: ignore[operator,return-value]
