"""How far a substation can be trusted that fails and comes back. Pure: time is an argument.

One that comes back goes through slow start instead of getting the whole backlog. One that keeps
failing is left out for a while after it comes back, longer each time (ejection); a time without a
failure makes up for one. The load tracker decides whether it can be spared.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

FREE_FAILURES: Final = 3  # falls that are forgiven without an ejection: restarts happen
FORGIVEN_SECONDS: Final = 30.0  # without a fall, until one fewer counts
EJECTED_SECONDS: Final = 5.0  # the first time, and twice as long each time after
MAX_EJECTED_SECONDS: Final = 300.0
MAX_FAILURES: Final = FREE_FAILURES + 7.0  # then the ejection is the longest; no more are counted


@dataclass(slots=True)
class Health:
    """What is remembered of one substation's failures. Times are in the tracker's seconds."""

    failed_at: float | None = None  # since when it cannot be used; None while it can
    failures: float = 0.0  # that count still, as of `counted_at`
    counted_at: float = 0.0
    ejected_until: float = 0.0
    back_at: float | None = None  # slow start began then, with as many sessions:
    back_with: float = 0.0

    def record_failure(self, now: float) -> None:
        """Record that it failed; while it stays away, that is one failure."""
        if self.failed_at is None:
            self.failed_at = now
            left = max(0.0, self.failures - (now - self.counted_at) / FORGIVEN_SECONDS)
            self.failures = min(MAX_FAILURES, left + 1.0)
            self.counted_at = now

    def record_recovery(self, now: float, sessions: float) -> None:
        """Record that it can be used again; slow start begins from the sessions it has.

        Where it is ejected, that begins once it is no longer.
        """
        if self.failed_at is None:
            return
        self.failed_at, self.back_with = None, sessions
        if (beyond := ceil(self.failures) - FREE_FAILURES) > 0:
            seconds = min(MAX_EJECTED_SECONDS, EJECTED_SECONDS * 2.0 ** (beyond - 1))
            self.ejected_until = max(self.ejected_until, now + seconds)
        self.back_at = max(now, self.ejected_until)

    def end_ejection(self, now: float) -> None:
        """End its ejection: it is needed. Slow start begins now; its failures still count."""
        self.ejected_until = self.back_at = now

    def ejected(self, now: float) -> bool:
        """Return whether it is left out though it could be used."""
        return now < self.ejected_until

    def slow_start_limit(self, places: float, now: float, slow_start: float) -> float:
        """Return how many of its places may be taken during the ``slow_start`` s.

        What it had when it came back may stay; of the rest at least one is open.
        """
        if self.back_at is None or not self.is_starting(now, slow_start):
            return places
        share = (now - self.back_at) / slow_start
        rest = max(0.0, places - self.back_with)
        return min(places, self.back_with + max(1.0, rest * share))

    def is_starting(self, now: float, slow_start: float) -> bool:
        """Return whether it is in slow start, or is about to be."""
        return self.back_at is not None and slow_start > 0 and now - self.back_at < slow_start

    def unsteady(self, now: float, slow_start: float) -> bool:
        """Return whether the mere passing of time will change something."""
        return self.is_starting(now, slow_start) or self.ejected(now)
