"""A substation as it really is, with its queue and the jobs in flight to it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from grid.events import Counts
from grid.messages import DEFAULT_POWER_KW


@dataclass(eq=False)
class Job:
    """One job: what it draws in kW, and whether that can be known before it charges."""

    draws: float
    known: bool = True

    @property
    def counts_as(self) -> float:
        """Return the power it counts as while in flight, in kW."""
        return self.draws if self.known else DEFAULT_POWER_KW


class Truth:
    """A substation, first in first out, and every job that was sent there and is not over."""

    def __init__(self) -> None:
        self.sent: deque[Job] = deque()  # published, and not in the queue yet
        self.ready: deque[Job] = deque()  # in the queue
        self.held: deque[Job] = deque()  # unacknowledged by a consumer that is gone
        self.sessions: list[Job] = []
        self.copies = 0  # second copies of jobs, in the queue
        self.accepted = self.completed = self.duplicates = 0
        self.started_at = 1000.0

    @property
    def on_the_way(self) -> list[Job]:
        """Return the jobs without a session."""
        return [*self.held, *self.ready, *self.sent]

    @property
    def load(self) -> int:
        """Return the number of jobs."""
        return len(self.sessions) + len(self.on_the_way)

    @property
    def charging_kw(self) -> float:
        """Return what the sessions draw, in kW."""
        return sum(job.draws for job in self.sessions)

    @property
    def power_kw(self) -> float:
        """Return what all jobs draw or will draw, as far as that can be known, in kW."""
        return self.charging_kw + sum(job.counts_as for job in self.on_the_way)

    @property
    def least_kw(self) -> float:
        """Return the same for the case that it is unknown which of them charge, in kW."""
        return sum(min(job.draws, job.counts_as) for job in [*self.sessions, *self.on_the_way])

    @property
    def counts(self) -> Counts:
        """Return the substation's own counters."""
        return Counts(
            len(self.sessions),
            self.accepted,
            self.completed,
            self.duplicates,
            self.started_at,
            self.charging_kw,
        )

    def arrive(self) -> None:
        """Move the next job into the queue."""
        self.ready.append(self.sent.popleft())

    def take(self) -> None:
        """Begin a session."""
        self.sessions.append(self.ready.popleft())
        self.accepted += 1

    def complete(self, number: int) -> None:
        """End a session."""
        self.sessions.pop(number)
        self.completed += 1

    def take_copy(self) -> None:
        """Drop a second copy."""
        self.copies -= 1
        self.duplicates += 1

    def restart(self, *, noticed: bool) -> None:
        """Restart the substation; its jobs go back to the queue once the broker notices."""
        self.held.extend(self.sessions)
        self.sessions.clear()
        self.accepted = self.completed = self.duplicates = 0
        self.started_at += 1
        if noticed:
            self.give_back()

    def give_back(self) -> None:
        """Requeue what a lost consumer had, ahead of all others."""
        self.ready.extendleft(reversed(self.held))
        self.held.clear()

    def forget_powers(self) -> None:
        """Make the load tracker forget what the jobs will draw."""
        for job in [*self.sessions, *self.on_the_way]:
            job.known = False
