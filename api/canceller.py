"""Cancelling jobs: a cancellation is written, and whoever has the job ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from api.errors import AlreadyEnded
from api.jobs.event_log import EventLog
from api.jobs.job import Job
from grid import cancellation_log
from grid.amqp import Publisher
from grid.cancellations import Cancellation
from grid.events import ENDED, FINAL, State
from grid.kinds import ANY_REPLAYS

END_SECONDS: Final = 1.0  # for which a caller waits for the end of the job


class Canceller:
    """Writes cancellations, and waits for the ends that follow.

    Args:
        log: Shows how jobs end.
        publisher: Writes to ``charge.cancellations``.
        timeout: How many seconds RabbitMQ may take to confirm that.
        clock: Returns Unix seconds.
    """

    def __init__(
        self, log: EventLog, publisher: Publisher, timeout: float, clock: Callable[[], float]
    ) -> None:
        self._log = log
        self._publisher = publisher
        self._timeout = timeout
        self._clock = clock

    async def cancel(self, id: str) -> Job:
        """Cancel a job, and return it; it may not have ended yet after ``END_SECONDS``.

        Raises:
            UnknownJob: There is no such job.
            NotCaughtUp: It is not known yet whether there is, or whether it has ended.
            AlreadyEnded: It has ended otherwise.
            BrokerUnavailable: RabbitMQ has not confirmed the cancellation in time.
        """
        job = self._log.existing(id)
        if not _is_settled(job):
            self._log.check_caught_up()  # it may have ended already, or been replayed
        if not _has_ended(job):
            # the request may have been accepted by a clock that is ahead of this one
            written = Cancellation(id, max(self._clock(), job.asked_at or 0.0))
            await cancellation_log.write(self._publisher, written, self._timeout)
            job = await self._log.until(job, _has_ended, END_SECONDS)
        if _has_ended(job) and job.status is not State.CANCELLED:
            raise AlreadyEnded(f"job {id} cannot be cancelled: it is {job.status} already")
        return job


def _is_settled(job: Job) -> bool:
    """Return whether a job has ended so that no event read later can change it."""
    by_client = job.ends.get(State.CANCELLED)
    return job.status in FINAL or (by_client is not None and by_client.replays == ANY_REPLAYS)


def _has_ended(job: Job) -> bool:
    return job.status in ENDED
