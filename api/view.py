"""What the api knows, from which routes make their answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from api import answers
from api.answers import NO_WAIT, Wait
from api.jobs.event_log import EventLog
from api.jobs.feed import Feed
from api.jobs.job import Job
from api.jobs.projection import Projection
from grid.errors import STILL_READING
from grid.events import State


@dataclass(frozen=True, slots=True)
class View:
    """The jobs and the substations as the event log describes them.

    ``clock`` returns Unix seconds.
    """

    log: EventLog
    projection: Projection
    feed: Feed
    clock: Callable[[], float]

    def end_answers(self) -> None:
        """End the answers that wait for what happens: the service stops."""
        self.feed.end()
        self.log.end_waits()

    def wait_of(self, job: Job) -> Wait:
        """Return why a job waits now, as far as that is known; nothing if it does not."""
        if not self.log.caught_up.is_set():
            return Wait(STILL_READING, None, None) if job.status is State.QUEUED else NO_WAIT
        return answers.wait_of(job, self.projection, self.clock(), self.feed.last_heard)
