"""Putting requests back into ``charge.requests``, behind all that are there.

What fits nowhere now must not keep out what would fit, and nothing may be held for so long that
RabbitMQ takes the dispatcher for hanging; nor must a job that was taken back keep out others that
are to be. A request is published again before its delivery is acknowledged; its id tells one copy
from two, and a header that a job was taken back from where some dispatcher remembers it to be.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER, Job
from grid import topology
from grid.amqp import Outcome, Publisher
from scheduling.wait_queue import WaitQueue

HELD_FULL: Final = 0.9  # of the prefetch: beyond, what fits nowhere keeps out what would fit
SHARE: Final = 0.25  # of the prefetch, at once
PAUSE_SECONDS: Final = 1.0  # between two times: what comes around again may still fit nowhere
RECLAIMED_SECONDS: Final = 5.0  # for a job that was taken back to find room, where there is some
HELD_MOST_SECONDS: Final = 1200.0  # RabbitMQ's own patience ends at 30 minutes, unless it was told


class RequeueOverflow:
    """Publishes those of the line that are to go back; ``returned`` is told how that ended.

    ``position`` returns the offset up to which the event log was read.
    """

    def __init__(
        self,
        wait_queue: WaitQueue[Job],
        publisher: Publisher,
        returned: Callable[[Job, Outcome], None],
        position: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        self._wait_queue = wait_queue
        self._publisher = publisher
        self._returned = returned
        self._position = position
        self._now = now
        self._due_at = self._look_at = 0.0

    def requeue(self, prefetch: int) -> None:
        """Put back what room that is left does not serve, where it keeps out others."""
        self._free_hand()
        if len(self._wait_queue) <= HELD_FULL * prefetch or self._now() < self._due_at:
            return
        self._due_at = self._now() + PAUSE_SECONDS
        for job in self._wait_queue.pop_last(max(1, int(SHARE * prefetch))):
            self._publish(job)

    def _free_hand(self) -> None:
        """Put back the jobs that were taken back in vain: no more than some are in hand at once."""
        now = self._now()
        if now < self._look_at or not len(self._wait_queue):
            return
        self._look_at = now + PAUSE_SECONDS
        latest = now - RECLAIMED_SECONDS
        for job in self._wait_queue.pop_where(lambda job: job.origin != "" and job.since <= latest):
            self._publish(job)

    def renew(self) -> None:
        """Put back those that were held for long."""
        if self._now() < self._due_at:
            return
        latest = self._now() - HELD_MOST_SECONDS
        for job in self._wait_queue.pop_where(lambda job: job.since <= latest):
            self._due_at = self._now() + PAUSE_SECONDS
            self._publish(job)

    def _publish(self, job: Job) -> None:
        job.returning, job.read_to = True, self._position()
        self._publisher.publish(
            topology.REQUESTS_EXCHANGE,
            topology.REQUESTS,
            job.body,
            partial(self._returned, job),
            id=job.id,
            headers={
                **job.headers,
                COPY_HEADER: True,
                **({RECLAIMED_HEADER: job.was_at} if job.was_at else {}),
            },
            priority=job.request.priority,
            # where its delivery went with a link, RabbitMQ has it where it was
            wanted=lambda: job.is_ours,
        )
