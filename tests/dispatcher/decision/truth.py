"""A substation as it really is, with its queue and what is on its way to that."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from grid.events import Counts
from grid.messages import DEFAULT_POWER_KW


@dataclass(eq=False)
class Job:
    """One vehicle: what it draws in kW, and whether the ledger can know that before it charges."""

    draws: float
    known: bool = True

    @property
    def counts_as(self) -> float:
        """What it is counted as while it is on its way, in kW."""
        return self.draws if self.known else DEFAULT_POWER_KW


class Truth:
    """A substation, first in first out, and every job that was sent there and is not over."""

    def __init__(self) -> None:
        self.sent: deque[Job] = deque()  # published, and not in the queue yet
        self.ready: deque[Job] = deque()  # in the queue
        self.held: deque[Job] = deque()  # the broker keeps them for a consumer that is gone
        self.sessions: list[Job] = []
        self.copies = 0  # second copies of jobs, in the queue
        self.accepted = self.completed = self.duplicates = 0
        self.started_at = 1000.0

    @property
    def on_the_way(self) -> list[Job]:
        """The jobs that no session shows."""
        return [*self.held, *self.ready, *self.sent]

    @property
    def load(self) -> int:
        """How many jobs there are."""
        return len(self.sessions) + len(self.on_the_way)

    @property
    def charging_kw(self) -> float:
        """What the sessions draw, in kW."""
        return sum(job.draws for job in self.sessions)

    @property
    def power_kw(self) -> float:
        """What all jobs draw or will draw, as far as that can be known, in kW."""
        return self.charging_kw + sum(job.counts_as for job in self.on_the_way)

    @property
    def least_kw(self) -> float:
        """The same where it is not known which of them charge, in kW."""
        return sum(min(job.draws, job.counts_as) for job in [*self.sessions, *self.on_the_way])

    @property
    def counts(self) -> Counts:
        """Give what the substation says of itself."""
        return Counts(
            len(self.sessions),
            self.accepted,
            self.completed,
            self.duplicates,
            self.started_at,
            self.charging_kw,
        )

    def arrive(self) -> None:
        """The next job reaches the queue."""
        self.ready.append(self.sent.popleft())

    def take(self) -> None:
        """A session begins."""
        self.sessions.append(self.ready.popleft())
        self.accepted += 1

    def complete(self, number: int) -> None:
        """A session ends."""
        self.sessions.pop(number)
        self.completed += 1

    def take_copy(self) -> None:
        """A second copy is dropped."""
        self.copies -= 1
        self.duplicates += 1

    def restart(self, *, noticed: bool) -> None:
        """Begin anew; the jobs go back to the queue as soon as the broker notices."""
        self.held.extend(self.sessions)
        self.sessions.clear()
        self.accepted = self.completed = self.duplicates = 0
        self.started_at += 1
        if noticed:
            self.give_back()

    def give_back(self) -> None:
        """The broker puts what it held back where it was, before all others."""
        self.ready.extendleft(reversed(self.held))
        self.held.clear()

    def forget_powers(self) -> None:
        """Nobody who counts knows any more what they will draw."""
        for job in [*self.sessions, *self.on_the_way]:
            job.known = False
