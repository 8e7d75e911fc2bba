"""Jobs that were sent, confirmed, and not heard of since: their queue may have been deleted.

A queue takes with it what had not been brought to its consumer. Such a job is sent once more to the
same substation, which knows a second copy by its id: that is right even where it was wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from dispatcher.doubt import ReadLog
from dispatcher.jobs import Job
from dispatcher.progress import Progress
from grid.waiting import within

log = logging.getLogger(__name__)

OVERDUE_SECONDS: Final = 5.0  # where it is well, a substation begins within milliseconds
LOOK_SECONDS: Final = 1.0
LOG_SECONDS: Final = 5.0  # to read the event log as far as it is written
DOUBLINGS_MOST: Final = 6  # of that time: where a session's beginning could not be put on record
MOST: Final = 100_000  # jobs that are remembered; what is due first is forgotten first

TakesJobs = Callable[[str], Coroutine[Any, Any, bool]]


class Unbegun:
    """Remembers each job until ``progress`` tells that it has begun, has ended or went elsewhere.

    ``read_log`` comes back when all is read that was written before the call. ``takes_jobs`` tells
    of a substation whether whatever is in its queue would have begun by now. ``send`` sends a job
    there once more, unless it is in hand; ``now`` gives steady seconds.
    """

    def __init__(
        self,
        progress: Progress,
        read_log: ReadLog,
        takes_jobs: TakesJobs,
        *,
        send: Callable[[Job], None],
        now: Callable[[], float],
    ) -> None:
        self._progress = progress
        self._read_log = read_log
        self._takes_jobs = takes_jobs
        self._send = send
        self._now = now
        self._due: list[tuple[float, int, Job]] = []  # a heap
        self._number = count()

    def note(self, job: Job) -> None:
        """Record a job that RabbitMQ has confirmed on its substation's queue."""
        wait = OVERDUE_SECONDS * 2 ** min(job.once_more, DOUBLINGS_MOST)
        heappush(self._due, (self._now() + wait, next(self._number), job))
        if len(self._due) > MOST:
            heappop(self._due)

    async def run(self) -> None:
        """Look again and again, until the task is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Send the jobs once more that should have begun."""
        overdue = self._overdue()
        if not overdue:
            return
        known = await within(LOG_SECONDS, self._read_log())
        for where in sorted({job.substation for job in overdue}):
            takes_jobs = known and await self._takes_jobs(where)
            silent = [job for job in overdue if job.substation == where and self._silent(job)]
            if takes_jobs and silent:
                log.warning("%d jobs are sent to %s once more: nothing began", len(silent), where)
            for job in silent:
                if takes_jobs:
                    self._send(job)
                else:
                    self.note(job)

    def _overdue(self) -> list[Job]:
        """Remove and return the jobs that were sent long ago, and have not been heard of."""
        found, now = [], self._now()
        while self._due and self._due[0][0] <= now:
            _, _, job = heappop(self._due)
            if self._silent(job):
                found.append(job)
        return found

    def _silent(self, job: Job) -> bool:
        progress = self._progress
        return (
            not progress.ended(job.id, job.replays, job.request.requested_at)
            and progress.charging_at(job.id) is None
            and progress.sent_to(job.id) in (None, job.substation)
        )
