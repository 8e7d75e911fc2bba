"""How long a session takes, and what it delivers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grid.messages import ChargeRequest

HOUR: Final = 3600.0
MAX_SECONDS: Final = 7 * 24 * HOUR  # a request may name any power, however small


@dataclass(frozen=True, slots=True)
class Charge:
    """A session as it is planned: how many seconds it takes, and what it delivers by then."""

    seconds: float
    energy_kwh: float

    def delivered_kwh(self, elapsed: float) -> float:
        """Return what it has delivered after so many seconds; it charges at a constant power."""
        share = elapsed / self.seconds if self.seconds > 0 else 1.0
        return self.energy_kwh * min(1.0, max(0.0, share))

    def within(self, seconds: float) -> Charge:
        """Return the session of a vehicle that leaves after so many seconds, charged or not."""
        if seconds >= self.seconds:
            return self
        return Charge(seconds, self.delivered_kwh(seconds))


def planned(request: ChargeRequest, seconds: float, speed: float | None) -> Charge:
    """Return the session of a request.

    With a ``speed`` (simulated seconds a second), it takes as long as the energy takes that is
    requested. Otherwise, and where none is requested, it takes ``seconds``, whatever is delivered
    in that time: the energy that is requested, or else what its power gives.
    """
    energy_kwh, power_kw = request.requested_energy_kwh, request.power_kw
    if energy_kwh is None:
        return Charge(seconds, power_kw * seconds * (speed or 1.0) / HOUR)
    if speed is None:
        return Charge(seconds, energy_kwh)
    return Charge(min(MAX_SECONDS, HOUR * energy_kwh / power_kw / speed), energy_kwh)
