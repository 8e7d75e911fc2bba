"""The model of one substation: its connectors, its sessions, power and energy. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from grid.events import Counts, State
from grid.messages import DEFAULT_POWER_KW
from grid.topology import SUBSTATION_MAX_LENGTH

POWER_DIGITS: Final = 6  # of kW: in sums of fractions, no more are meaningful
# The ends of jobs, to recognise a second copy: it may have waited behind a full queue of others.
REMEMBERED: Final = 2 * SUBSTATION_MAX_LENGTH

End = tuple[State, float]  # how a job ended, and when, in Unix seconds


@dataclass(slots=True)
class Station:
    """A substation's jobs and counters.

    ``connectors`` is how many vehicles charge at once, power is in kW, ``started_at`` in Unix
    seconds. A job's id is in ``sessions`` while it charges and is remembered for a while after.
    """

    connectors: int
    rated_power_kw: float
    background_power_kw: float
    started_at: float
    sessions: dict[str, float] = field(default_factory=dict)  # a job's id → the power it draws
    accepted: int = 0
    completed: int = 0
    duplicates: int = 0
    expired: int = 0
    cancelled: int = 0  # sessions
    cancelled_deliveries: int = 0  # jobs whose session had not begun
    charging_power_kw: float = 0.0  # what all sessions draw together
    energy_kwh: float = 0.0  # that all sessions have delivered
    waiting: int = 0  # jobs delivered while every connector is taken
    _ends: OrderedDict[str, End] = field(default_factory=OrderedDict)

    @property
    def full(self) -> bool:
        """Return whether every connector is taken."""
        return len(self.sessions) >= self.connectors

    def counts(self) -> Counts:
        """Return load and counters as of one instant."""
        return Counts(
            len(self.sessions),
            self.accepted,
            self.completed + self.cancelled,
            self.duplicates + self.expired + self.cancelled_deliveries,
            self.started_at,
            self.charging_power_kw,
            self.waiting,
        )

    def totals(self) -> dict[str, float]:
        """Return what has happened since the start, in words."""
        return {"begun": self.accepted, "completed": self.completed, "cancelled": self.cancelled}

    def start(self, job: str, power_kw: float | None) -> None:
        """Start to charge a new job, on a free connector."""
        self.sessions[job] = power_kw or DEFAULT_POWER_KW
        self._draw(self.sessions[job])
        self.accepted += 1

    def finish(self, job: str, at: float, energy_kwh: float = 0.0) -> None:
        """End a session that has charged its vehicle; ``at`` is in Unix seconds."""
        self._draw(-self.sessions.pop(job))
        self.energy_kwh += energy_kwh
        self.completed += 1
        self._remember(job, (State.COMPLETED, at))

    def interrupt(self, job: str, energy_kwh: float = 0.0) -> None:
        """End a session whose job is requeued."""
        self._draw(-self.sessions.pop(job))
        self.energy_kwh += energy_kwh

    def expire(self, job: str, at: float) -> None:
        """Record a job that is not charged, since its vehicle has left."""
        self.expired += 1
        self._remember(job, (State.EXPIRED, at))

    def cancel(self, job: str, at: float, energy_kwh: float = 0.0) -> None:
        """Record that a client has cancelled a job; end its session, if that has begun."""
        self.energy_kwh += energy_kwh
        if job in self.sessions:
            self._draw(-self.sessions.pop(job))
            self.cancelled += 1
        else:
            self.cancelled_deliveries += 1
        self._remember(job, (State.CANCELLED, at))

    def end(self, job: str) -> End | None:
        """Return how a job ended here, and when, as far as it is remembered."""
        return self._ends.get(job)

    def _remember(self, job: str, end: End) -> None:
        self._ends[job] = end
        if len(self._ends) > REMEMBERED:
            self._ends.popitem(last=False)

    def _draw(self, power_kw: float) -> None:
        # rounded each time, so that inexact sums leave no remainder
        self.charging_power_kw = round(self.charging_power_kw + power_kw, POWER_DIGITS)
