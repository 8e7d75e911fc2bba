"""Putting requests back into ``charge.requests``, behind all that are there.

What fits nowhere now must not keep out what would fit, and nothing may be held for so long that
RabbitMQ takes the dispatcher for hanging. A request is published again before its delivery is
acknowledged; its id tells one copy from two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from dispatcher.decision.line import Line
from dispatcher.jobs import Job
from grid import topology
from grid.amqp import Outcome, Publisher

HELD_FULL: Final = 0.9  # of the prefetch: beyond, what fits nowhere keeps out what would fit
SHARE: Final = 0.25  # of the prefetch, at once
PAUSE_SECONDS: Final = 1.0  # between two times: what comes around again may still fit nowhere
HELD_MOST_SECONDS: Final = 1200.0  # RabbitMQ's own patience ends at 30 minutes, unless it was told


class SetBack:
    """Takes from the line those that are to go back; ``returned`` hears how it ended for each."""

    def __init__(
        self,
        line: Line[Job],
        publisher: Publisher,
        returned: Callable[[Job, Outcome], None],
        now: Callable[[], float],
    ) -> None:
        self._line = line
        self._publisher = publisher
        self._returned = returned
        self._now = now
        self._due_at = 0.0
        self.under_way: set[Job] = set()  # whose copy is published, and not answered for

    def make_way(self, prefetch: int) -> None:
        """Put back those that would be served last, where no more can be held."""
        if len(self._line) <= HELD_FULL * prefetch or self._now() < self._due_at:
            return
        self._due_at = self._now() + PAUSE_SECONDS
        for job in self._line.take_last(max(1, int(SHARE * prefetch))):
            self._publish(job)

    def renew(self) -> None:
        """Put back those that were held for long."""
        if self._now() < self._due_at:
            return
        latest = self._now() - HELD_MOST_SECONDS
        for job in self._line.take(lambda job: job.since <= latest):
            self._due_at = self._now() + PAUSE_SECONDS
            self._publish(job)

    def _publish(self, job: Job) -> None:
        job.returning = True
        self.under_way.add(job)
        self._publisher.publish(
            topology.REQUESTS,
            topology.REQUESTS,
            job.body,
            partial(self._on_answer, job),
            id=job.id,
            priority=job.request.priority,
        )

    def _on_answer(self, job: Job, outcome: Outcome) -> None:
        self.under_way.discard(job)
        self._returned(job, outcome)
