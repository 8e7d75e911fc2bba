"""Which waiting requests go back to ``charge.requests``, behind all that are there. Pure.

What fits nowhere now must not keep out what would fit, and nothing may be held for so long that
RabbitMQ takes the dispatcher for hanging; nor must a reclaimed job keep out others that are to be
reclaimed. A request is published again before its delivery is acknowledged; its id tells one copy
from two, and a header that a job was reclaimed from where some dispatcher remembers it to be.
"""

from __future__ import annotations

from typing import Final

from dispatcher.jobs import Job
from scheduling.wait_queue import WaitQueue

HELD_FULL: Final = 0.9  # of the prefetch: beyond, what fits nowhere keeps out what would fit
SHARE: Final = 0.25  # of the prefetch, at once
PAUSE_SECONDS: Final = 1.0  # between two times: what comes around again may still fit nowhere
RECLAIMED_SECONDS: Final = 5.0  # for a reclaimed job to find capacity, where there is some
MAX_HELD_SECONDS: Final = 1200.0  # RabbitMQ's own timeout is 30 minutes, unless it was set


class RequeueOverflow:
    """Removes jobs that are to be requeued from the wait queue; ``now`` is steady seconds."""

    def __init__(self, wait_queue: WaitQueue[Job]) -> None:
        self._wait_queue = wait_queue
        self._due_at = self._look_at = 0.0

    def due(self, prefetch: int, now: float) -> list[Job]:
        """Return what the capacity that is left does not serve, where it keeps out others."""
        found = self._reclaimed_in_vain(now)
        if len(self._wait_queue) > HELD_FULL * prefetch and now >= self._due_at:
            self._due_at = now + PAUSE_SECONDS
            found += self._wait_queue.pop_last(max(1, int(SHARE * prefetch)))
        return found

    def held_too_long(self, now: float) -> list[Job]:
        """Return those that were held for long."""
        if now < self._due_at:
            return []
        found = self._wait_queue.pop_where(lambda job: job.since <= now - MAX_HELD_SECONDS)
        if found:
            self._due_at = now + PAUSE_SECONDS
        return found

    def _reclaimed_in_vain(self, now: float) -> list[Job]:
        """Return the jobs that were reclaimed in vain: only so many are in hand at once."""
        if now < self._look_at or not len(self._wait_queue):
            return []
        self._look_at = now + PAUSE_SECONDS
        latest = now - RECLAIMED_SECONDS
        return self._wait_queue.pop_where(lambda job: job.origin != "" and job.since <= latest)
