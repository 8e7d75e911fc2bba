"""Chooses the waiting requests that are requeued to ``charge.requests``, behind the others. Pure.

Requests that fit nowhere now, or may not begin yet, must not keep out others that would fit. Those
of a tenant that floods must not keep out those of others: by the event log it is known whether such
are still to come. No request may be held until RabbitMQ's timeout for acknowledgements, and
reclaimed jobs must not keep others from being reclaimed. A request is published again before its
delivery is acknowledged. Its id identifies the copy, and a header says from which substation it was
reclaimed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from math import inf
from typing import Final

from dispatcher.jobs import Job
from scheduling.wait_queue import WaitQueue

HELD_FULL: Final = 0.9  # of the prefetch: above it, requests that fit nowhere keep out others
SHARE: Final = 0.25  # of the prefetch, at once
PAUSE_SECONDS: Final = 1.0  # between two times: a requeued request may still fit nowhere
FLOOD_PAUSE_SECONDS: Final = 0.25  # between two times, while requests of others are still to come
FLOOD_OVER_SECONDS: Final = 10.0  # without such a time, a flood is over
RECLAIMED_SECONDS: Final = 5.0  # for a reclaimed job to be assigned while there is capacity
MAX_HELD_SECONDS: Final = 1200.0  # RabbitMQ's consumer_timeout is 30 minutes by default


class RequeueOverflow:
    """Removes jobs that are to be requeued from the wait queue; ``now`` is steady seconds."""

    def __init__(self, wait_queue: WaitQueue[Job]) -> None:
        self._wait_queue = wait_queue
        self._due_at = self._look_at = self._flood_at = 0.0
        self._flooded_at = -inf  # when jobs of a flood were removed last
        self.flood_began = False  # when they were last, there was none before

    def pop_due(self, prefetch: int, now: float) -> list[Job]:
        """Remove and return jobs that fit nowhere, or may not begin, if they keep out others."""
        found = self._pop_reclaimed_in_vain(now)
        if self._wait_queue.held > HELD_FULL * prefetch and now >= self._due_at:
            self._due_at = now + PAUSE_SECONDS
            found += self._wait_queue.pop_last(max(1, int(SHARE * prefetch)))
        return found

    def pop_flood(
        self, prefetch: int, now: float, undelivered: Callable[[], Mapping[str, int]]
    ) -> list[Job]:
        """Remove and return jobs of tenants that hold more than their part and keep out others.

        ``undelivered`` returns how many jobs of each tenant wait, and are not delivered yet.
        """
        queue = self._wait_queue
        if len(queue) <= HELD_FULL * prefetch or now < self._flood_at:
            return []
        self._flood_at = now + PAUSE_SECONDS
        if not (behind := undelivered()):
            return []
        held = Counter(_tenant(job) for job in queue)
        part = len(queue) / len(held.keys() | behind.keys())
        if not any(held[tenant] < part for tenant in behind):
            return []
        chosen: set[Job] = set()
        for job in reversed(list(queue)):
            if held[_tenant(job)] > part and len(chosen) < max(1, int(SHARE * prefetch)):
                held[_tenant(job)] -= 1
                chosen.add(job)
        self._flood_at = now + FLOOD_PAUSE_SECONDS
        self.flood_began = now - self._flooded_at > FLOOD_OVER_SECONDS
        self._flooded_at = now
        return queue.pop_where(chosen.__contains__)

    def pop_held_too_long(self, now: float) -> list[Job]:
        """Remove and return the jobs that were held for too long."""
        if now < self._due_at:
            return []
        found = self._wait_queue.pop_where(lambda job: job.since <= now - MAX_HELD_SECONDS)
        if found:
            self._due_at = now + PAUSE_SECONDS
        return found

    def _pop_reclaimed_in_vain(self, now: float) -> list[Job]:
        """Remove and return reclaimed jobs that found no capacity in time."""
        if now < self._look_at or not self._wait_queue.held:
            return []
        self._look_at = now + PAUSE_SECONDS
        latest = now - RECLAIMED_SECONDS
        return self._wait_queue.pop_where(lambda job: job.origin != "" and job.since <= latest)


def _tenant(job: Job) -> str:
    return job.requirements.tenant
