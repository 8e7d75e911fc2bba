"""A substation that is reserved for one job which others would overtake without end. Pure.

A job that needs much power fits nowhere while smaller ones take each kilowatt that becomes free.
After a while one substation is reserved for it, and nothing else is sent there until it fits. As in
EASY backfilling (Lifka 1995), that is done for one job at a time, and the reservation stays with
it: the others still use what is left everywhere else.
"""

from __future__ import annotations

from typing import Final, Generic

from scheduling.candidates import CandidateTable
from scheduling.wait_queue import W, WaitQueue

MAX_OVERTAKEN_SECONDS: Final = 5.0  # for so long a job may be overtaken
RETRY_INTERVAL: Final = 1.0  # between two looks at those for which nothing can be reserved


class Reservation(Generic[W]):
    """Which jobs lack power since when, and for which of them a substation is reserved."""

    def __init__(self, table: CandidateTable) -> None:
        self._table = table
        # when each first lacked power, though not a connector, or was overtaken behind such a job
        self._since: dict[W, float] = {}
        self._skipped: list[W] = []  # in this pass, behind one that lacks power
        self._job: W | None = None  # for which it is reserved
        self._in_vain: set[W] = set()  # those that would not fit anywhere even alone, for a while
        self._look_at = 0.0

    def is_for(self, job: W) -> bool:
        """Return whether a substation is reserved for that job."""
        return job is self._job

    def review(self, queue: WaitQueue[W], now: float) -> bool:
        """Release what is reserved in vain, or for no job that waits; return whether it was."""
        self._skipped.clear()
        if now >= self._look_at:
            self._look_at = now + RETRY_INTERVAL
            self._in_vain.clear()
            if since := self._since:
                self._since = {job: since[job] for job in queue if job in since}
        job = self._job
        if job is None or (any(each is job for each in queue) and self._reserve(job, now)):
            return False
        self.release()
        return True

    def on_passed_over(self, job: W, now: float) -> None:
        """Note a job that finds no capacity; reserve for the first that has lacked power for long.

        One for which no connector is free does not lack power alone.
        """
        if job not in self._since:
            if self._table.candidates_for(0.0, job.requirements.allowed, now) is not None:
                self._since[job] = now
            return
        due = self._job is None and now - self._since[job] >= MAX_OVERTAKEN_SECONDS
        if due and job not in self._in_vain and not self._reserve(job, now):
            self._in_vain.add(job)

    def on_skipped(self, job: W, refused: W) -> None:
        """Note a job that is not asked, since it needs no less than one that was just refused."""
        if refused in self._since:
            self._skipped.append(job)

    def on_assigned(self, job: W, now: float) -> None:
        """Forget a job that is assigned, and release what was reserved for it.

        It overtakes those that were skipped in this pass: their time begins, and not only when the
        one for which they were skipped is gone.
        """
        for each in self._skipped:
            self._since.setdefault(each, now)
        self._skipped.clear()
        self._since.pop(job, None)
        if job is self._job:
            self.release()

    def release(self) -> None:
        """Reserve nothing for any job."""
        self._job = self._table.reserved = None

    def _reserve(self, job: W, now: float) -> bool:
        """Reserve a substation, the same for as long as that will do; return whether any will."""
        table, needs = self._table, job.requirements
        table.reserved = table.soonest(
            needs.power_kw, needs.allowed, now, table.reserved, seconds=needs.seconds
        )
        self._job = None if table.reserved is None else job
        return table.reserved is not None
