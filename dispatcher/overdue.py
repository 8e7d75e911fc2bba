"""Jobs that were sent and confirmed, and did not begin: their queue may have been deleted. Pure.

Messages that were not delivered yet are lost with a deleted queue. Such a job is sent again to the
same substation, which recognises a second copy by its id, in case it has the job after all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from dispatcher.job_index import JobIndex
from dispatcher.jobs import Job

OVERDUE_SECONDS: Final = 5.0  # normally, a substation begins within milliseconds
MAX_DOUBLINGS: Final = 6  # of that time, if the log never shows that the session began
MAX_JOBS: Final = 100_000  # to remember; those due first are forgotten first


class OverdueJobs:
    """The jobs that have not begun by the index, and when they should have."""

    def __init__(self, index: JobIndex) -> None:
        self._index = index
        # by how often the time was doubled: within one, who came first is due first
        self._due: tuple[deque[tuple[float, Job]], ...] = tuple(
            deque() for _ in range(MAX_DOUBLINGS + 1)
        )
        self._count = 0

    def add(self, job: Job, now: float) -> None:
        """Add a job that RabbitMQ has confirmed; ``now`` never goes back."""
        doublings = min(job.resent, MAX_DOUBLINGS)
        self._due[doublings].append((now + OVERDUE_SECONDS * 2**doublings, job))
        self._count += 1
        if self._count > MAX_JOBS:
            min(filter(None, self._due), key=lambda due: due[0][0]).popleft()
            self._count -= 1

    def pop(self, now: float) -> list[Job]:
        """Remove the jobs that should have begun by now, and return those that have not."""
        found = []
        for due in self._due:
            while due and due[0][0] <= now:
                found.append(due.popleft()[1])
        self._count -= len(found)
        return self.silent(found)

    def silent(self, jobs: Iterable[Job]) -> list[Job]:
        """Return those that have not begun or ended, and were not sent elsewhere."""
        return [job for job in jobs if self._is_silent(job)]

    def _is_silent(self, job: Job) -> bool:
        index = self._index
        return (
            not index.ended(job.id, job.replays, job.request.requested_at)
            and index.charging_at(job.id) is None
            and index.assigned_to(job.id) in (None, job.substation)
        )
