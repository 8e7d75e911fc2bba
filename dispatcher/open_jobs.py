"""The jobs that were accepted and have not ended, as the event log tells. Pure.

What is open is never forgotten here: it is what the log promises. Of each job no more is kept than
the offset of its record in the log, from which the request can be read again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from heapq import nsmallest
from itertools import count
from typing import Final

from grid import parking
from grid.events import ENDED, FINAL, REQUEUED, Event, State

NOWHERE: Final = -1  # the offset of a record that may be in no log any more
ENDS_REMEMBERED: Final = (
    300_000  # as many as the log has at its limit; it may tell an end before what it ends
)


@dataclass(slots=True)
class Assigned:
    """Where a job was last sent, whether it has begun there, and the offset of its record."""

    substation: str
    begun: bool
    offset: int | None


class OpenJobs:
    """Follows the event log, or a part of it."""

    def __init__(self) -> None:
        self._waiting: dict[str, int] = {}  # by id: the offset of the record that it was accepted
        self._assigned: dict[str, Assigned] = {}
        # how often a job had been replayed when it ended; the first told are forgotten first
        self._ended: OrderedDict[str, tuple[bool, int]] = OrderedDict()
        self._replays: dict[str, int] = {}  # of those that were replayed
        self._numbers = count(1)
        self._requeued: dict[str, int] = {}  # those published again, in their order
        self._last = 0  # offset that was read
        self._complete = False

    @property
    def complete(self) -> bool:
        """Return whether the part of the log before this one was added."""
        return self._complete

    @property
    def waiting(self) -> int:
        """Return how many jobs are accepted and not assigned."""
        return len(self._waiting)

    def has_ended(self, job: str, replays: int) -> bool:
        """Return whether a job has ended that was replayed so often, as far as is remembered."""
        return self._is_over(job, replays)

    def take(self, event: Event, offset: int) -> None:
        """Apply an event that was read at an offset of the log."""
        if offset < self._last - 1:  # a reader begins again with the last message at most
            self._forget_offsets()
        self._last = offset
        if event.kind in ENDED:
            self._end(event)
        elif event.kind == State.QUEUED:
            self._queue(event, offset)
        elif event.kind == State.ASSIGNED and event.substation:
            self.assign(event.job, event.substation, parking.replays(event.detail))
        elif event.kind == REQUEUED:
            self.requeue(event.job)
        elif event.kind == State.CHARGING and event.substation:
            self._begin(event)

    def assign(self, job: str, substation: str, replays: int = 0) -> None:
        """Record that a job was sent to a substation: RabbitMQ has it there."""
        if self._is_over(job, replays):
            return
        known = self._assigned.get(job)
        offset = self._waiting.pop(job, known.offset if known else None)
        self._requeued.pop(job, None)
        begun = known is not None and known.begun and known.substation == substation
        self._assigned[job] = Assigned(substation, begun, offset)

    def absorb(self, earlier: OpenJobs) -> None:
        """Add what was open at the end of the part of the log before this one."""
        self._complete = True
        for job in [*self._waiting, *self._assigned]:
            if earlier._is_over(job, self.replays(job)):
                self.drop(job)
        for job, offset in earlier._waiting.items():
            if job in self._ended or job in self._waiting:
                continue
            if (later := self._assigned.get(job)) is None:
                self._waiting[job] = offset
            elif later.offset is None:
                later.offset = offset
        for job, known in earlier._assigned.items():
            if job not in self._ended and self.replays(job) <= earlier.replays(job):
                self._add_assigned(job, known)
        self._replays = {
            job: replays
            for job, replays in {**earlier._replays, **self._replays}.items()
            if job in self._waiting or job in self._assigned
        }

    def _add_assigned(self, job: str, known: Assigned) -> None:
        later = self._assigned.get(job)
        if later is None:
            offset = self._waiting.pop(job, None) if known.offset is None else known.offset
            self._waiting.pop(job, None)
            self._assigned[job] = Assigned(known.substation, known.begun, offset)
            return
        if later.offset is None:
            later.offset = known.offset
        if later.substation == known.substation:
            later.begun = later.begun or known.begun

    def silent(self, job: str) -> bool:
        """Return whether a job was assigned, and its session has not begun."""
        known = self._assigned.get(job)
        return known is not None and not known.begun

    def charging_at(self, job: str) -> str | None:
        """Return the substation where a job's session has begun, and not ended, as far as known."""
        known = self._assigned.get(job)
        return known.substation if known is not None and known.begun else None

    def assigned(self) -> dict[str, list[str]]:
        """Return the jobs that have not begun where they were sent, by substation."""
        found: dict[str, list[str]] = {}
        for job, known in self._assigned.items():
            if not known.begun:
                found.setdefault(known.substation, []).append(job)
        return found

    def substation(self, job: str) -> str:
        """Return the substation a job was assigned to; empty where it waits, or is not known."""
        known = self._assigned.get(job)
        return known.substation if known else ""

    def offset(self, job: str) -> int | None:
        """Return the offset of a job's record; None where it was not read, ``NOWHERE`` if gone."""
        if (waiting := self._waiting.get(job)) is not None:
            return waiting
        known = self._assigned.get(job)
        return known.offset if known else None

    def replays(self, job: str) -> int:
        """Return how often an operator has replayed a job."""
        return self._replays.get(job, 0)

    def missing(
        self,
        elsewhere: int,
        in_hand: Collection[str],
        lost_at_substations: Collection[str],
        most: int,
    ) -> list[str]:
        """Return the jobs that are in no queue, at most so many, the oldest first.

        ``elsewhere`` is how many messages are in queues where waiting jobs may be, ``in_hand`` are
        the jobs that the dispatcher has, ``lost_at_substations`` those that are not where they were
        sent. Queues are served in their order, so it is the oldest that are missing.
        """
        held = sum(job in self._waiting for job in in_hand)
        lost = [job for job in lost_at_substations if job not in in_hand]
        short = len(self._waiting) - held + len(lost) - elsewhere
        if short <= 0:
            return []
        waiting = self._waiting.items()
        found = [(self._place(job), offset, job) for job, offset in waiting if job not in in_hand]
        known = ((self.offset(job), job) for job in lost)
        found += [(self._place(job), offset, job) for offset, job in known if offset is not None]
        return [job for _, _, job in nsmallest(min(short, most), found)]

    def requeue(self, job: str) -> None:
        """Record that a job was published to ``charge.requests`` again, behind all others."""
        known = self._assigned.pop(job, None)
        if known is not None and known.offset is not None:
            self._waiting[job] = known.offset
        self._requeued.pop(job, None)
        if job in self._waiting:
            self._requeued[job] = next(self._numbers)

    def drop(self, job: str) -> None:
        """Forget a job whose record is gone."""
        self._waiting.pop(job, None)
        self._assigned.pop(job, None)
        self._replays.pop(job, None)
        self._requeued.pop(job, None)

    def _place(self, job: str) -> int:
        """Return a job's place among those that were published again; 0 where it was not."""
        return self._requeued.get(job, 0)

    def _forget_offsets(self) -> None:
        """Forget where the records stand: the log was deleted and made anew."""
        self._waiting = dict.fromkeys(self._waiting, NOWHERE)
        for each in self._assigned.values():
            each.offset = NOWHERE

    def _queue(self, event: Event, offset: int) -> None:
        replays = parking.replays(event.detail)
        if self._is_over(event.job, replays):
            return
        self._ended.pop(event.job, None)  # it was put aside, and is replayed
        if replays:
            self._replays[event.job] = max(replays, self.replays(event.job))
        known = self._assigned.get(event.job)
        if known is None:
            self._waiting.setdefault(event.job, offset)
        elif not replays or known.offset is None:
            known.offset = offset

    def _begin(self, event: Event) -> None:
        if event.job in self._ended:
            return
        known = self._assigned.get(event.job)
        offset = self._waiting.pop(event.job, known.offset if known else None)
        self._assigned[event.job] = Assigned(event.substation, begun=True, offset=offset)

    def _end(self, event: Event) -> None:
        self.drop(event.job)
        final, replays = event.kind in FINAL, parking.replays(event.detail)
        if (known := self._ended.get(event.job)) is not None:
            final, replays = final or known[0], max(replays, known[1])
        self._ended[event.job] = final, replays
        # until the earlier part of the log is added, all count: they end what is open there
        while self._complete and len(self._ended) > ENDS_REMEMBERED:
            self._ended.popitem(last=False)

    def _is_over(self, job: str, replays: int) -> bool:
        """Return whether a job has ended that was replayed so often: it may be replayed again."""
        known = self._ended.get(job)
        if known is None:
            return False
        final, until = known
        return final or replays <= until
