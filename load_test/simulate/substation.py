"""A simulated substation with its queue. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from grid.events import Counts


@dataclass(slots=True)
class Substation:
    """The jobs it charges and when they end, those in its queue, and its counters.

    ``run`` counts its restarts; while it is ``down`` nothing starts.
    """

    name: str
    connectors: int
    charging: dict[int, float] = field(default_factory=dict)
    queue: deque[int] = field(default_factory=deque)
    accepted: int = 0
    completed: int = 0
    session_seconds: float = 0.0  # of all completed sessions, together
    run: int = 0
    down: bool = False
    dropped: int = 0  # jobs whose vehicles had left when their turn came
    power_kw: float | None = None  # of its sessions; None if it does not say

    @property
    def in_hand(self) -> int:
        """Return how many jobs were sent here and have not ended."""
        return len(self.charging) + len(self.queue)

    def counts(self) -> Counts:
        """Return the counters that it reports."""
        return Counts(
            len(self.charging),
            self.accepted,
            self.completed,
            self.dropped,
            self.run,
            self.power_kw,
            len(self.queue),
        )

    def draw(self, power_kw: float) -> None:
        """Change what its sessions draw, if it says that at all."""
        if self.power_kw is not None:
            self.power_kw = round(self.power_kw + power_kw, 6)

    def drop(self, job: int) -> None:
        """Drop a job that was to start: its vehicle has left."""
        del self.charging[job]
        self.accepted -= 1
        self.dropped += 1

    def next(self) -> int | None:
        """Start to charge the first job of the queue, if there is one and a connector for it."""
        if self.down or not self.queue or len(self.charging) >= self.connectors:
            return None
        job = self.queue.popleft()
        self.charging[job] = inf
        self.accepted += 1
        return job

    def finish(self, job: int, seconds: float) -> None:
        """End a session that took ``seconds``."""
        del self.charging[job]
        self.completed += 1
        self.session_seconds += seconds

    @property
    def mean_session(self) -> float | None:
        """Return how long a session took on average, in s."""
        return self.session_seconds / self.completed if self.completed else None

    def fall(self) -> None:
        """Fail: what is charged returns to the head of the queue, in its order."""
        self.down = True
        self.queue.extendleft(sorted(self.charging, reverse=True))
        self.charging.clear()
        self.accepted = self.completed = self.dropped = 0
        self.power_kw = None if self.power_kw is None else 0.0
        self.session_seconds = 0.0

    def rise(self) -> None:
        """Come back, as a new run of the process."""
        self.down = False
        self.run += 1
