"""What is known of recent jobs: where they were sent from here, and what the event log says. Pure.

Except for ``assigned_since``, the answers do not depend on the order in which events are read, nor
on how often. Memory is bounded: the jobs without news for the longest time are forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Any, Final

from msgspec import Struct

from grid import kinds
from grid.events import ASIDE, ASSIGNED, CHARGING, FINAL, Event

MAX_JOBS: Final = 200_000  # that are remembered
MAX_TRAIL: Final = 4  # assignments of one job whose order is remembered

Assigned = tuple[float, int, str]  # when, which attempt, where
End = tuple[float, str, str, str]  # when, which state, where, why


class _Record(Struct, gc=False):
    """What is known of one job; times are Unix seconds.

    ``sent`` is where this dispatcher sent it, when that was decided, and after how many replays;
    everything else comes from the event log. ``assigned`` is the latest assignment,
    ``elsewhere_at`` when the latest to any other substation was, ``assigned_after`` the most
    replays that any came after; ``trail`` holds when and where to, in the order of the first
    reading, if there were several. ``charging`` is since when, and where.
    ``end`` is the first end; ``aside`` how the job was parked or cancelled the last time, and after
    how many replays.
    """

    sent: tuple[str, float, int] | None = None
    assigned: Assigned | None = None
    elsewhere_at: float = -inf
    assigned_after: int = 0
    trail: tuple[tuple[float, str], ...] = ()
    charging: tuple[float, str] | None = None
    end: End | None = None
    aside: tuple[int, End] | None = None


_UNKNOWN: Final = _Record()  # never written to


class JobIndex:
    """The jobs that were sent from here or have events, at most ``max_jobs``."""

    def __init__(self, max_jobs: int = MAX_JOBS) -> None:
        self._max_jobs = max_jobs
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def __len__(self) -> int:
        """Return how many jobs are remembered."""
        return len(self._records)

    def __contains__(self, job: str) -> bool:
        """Return whether anything is known of a job."""
        return job in self._records

    # what this dispatcher did

    def note_sent(self, job: str, substation: str, at: float, replays: int = 0) -> None:
        """Record where a job was sent from here, and when that was decided, in Unix seconds.

        The substation is empty if the job ended here.
        """
        self._heard_of(job).sent = substation, at, replays

    def forget_sent(self, job: str) -> None:
        """Forget where a job was sent from here: it was reclaimed, or is decided anew."""
        if (record := self._records.get(job)) is not None:
            record.sent = None

    def has_sent(self, job: str, replays: int = 0) -> bool:
        """Return whether a job was sent or ended here, after at least this many replays."""
        sent = self._of(job).sent
        return sent is not None and sent[2] >= replays

    def sent_from_here(self, job: str) -> str | None:
        """Return the substation a job was sent to; empty if it ended here, None if unknown."""
        sent = self._of(job).sent
        return None if sent is None else sent[0]

    def sent_from_here_at(self, job: str) -> float:
        """Return when that was decided, in Unix seconds; minus infinity if unknown."""
        sent = self._of(job).sent
        return -inf if sent is None else sent[1]

    # what the event log says

    def apply(self, event: Event) -> None:
        """Apply an event; skip those that do not change a job's state."""
        kind = event.kind
        if kind == ASSIGNED:
            self._assign(event)
        elif kind == CHARGING:
            self._charge(event)
        elif kind in FINAL:
            record = self._heard_of(event.job)
            record.charging = None
            end = event.at, str(event.kind), event.substation, event.reason
            record.end = end if record.end is None else min(end, record.end)
        elif kind in ASIDE:
            self._put_aside(event)

    def ended(self, job: str, replays: int = 0, asked_at: float = -inf) -> bool:
        """Return whether a job with this many replays has ended.

        If it was parked or cancelled before ``asked_at`` (Unix seconds), it has not: its sender has
        requested it anew.
        """
        record = self._of(job)
        if record.end is not None:
            return True
        aside = record.aside
        return aside is not None and aside[0] >= replays and aside[1][0] >= asked_at

    def end(self, job: str) -> Event | None:
        """Return the event that ended a job, or last parked or cancelled it, if it was read."""
        record = self._of(job)
        if record.end is not None:
            return _event(job, record.end)
        if record.aside is None:
            return None
        return _event(job, record.aside[1], kinds.ended_after(record.aside[0]))

    def assigned_to(self, job: str) -> str | None:
        """Return the substation a job was last assigned to, if that event was read."""
        assigned = self._of(job).assigned
        return None if assigned is None else assigned[2]

    def assigned_at(self, job: str) -> float:
        """Return when a job was last assigned, in Unix seconds; minus infinity if never."""
        assigned = self._of(job).assigned
        return -inf if assigned is None else assigned[0]

    def assigned_after(self, job: str) -> int:
        """Return after how many replays a job was assigned: the most of all its assignments."""
        return self._of(job).assigned_after

    def assigned_since(self, job: str, substation: str, where: str, at: float) -> bool:
        """Return whether a job may have gone to a substation after it went ``where``.

        The latter was decided ``at``, in Unix seconds. True if the clocks of the dispatchers say
        so, which may differ, or the order in the log, to which events may be written late.
        """
        record = self._of(job)
        known, trail = record.assigned, record.trail
        if known is not None and known[2] == substation and known[0] > at:
            return True
        if (at, where) not in trail:
            return False
        later = trail[trail.index((at, where)) + 1 :]
        return any(each[1] == substation for each in later)

    def charging_at(self, job: str) -> str | None:
        """Return the substation that charges a job now, by the events read.

        A session is over when its job has ended, or was parked, cancelled or assigned elsewhere
        after it began.
        """
        record = self._of(job)
        if record.charging is None:
            return None
        since, where = record.charging
        aside_at = -inf if record.aside is None else record.aside[1][0]
        return None if aside_at >= since or _elsewhere_at(record, where) > since else where

    # both together

    def went_elsewhere(self, job: str, substation: str) -> bool:
        """Return whether a job in a substation's queue was sent elsewhere since, or ended here.

        What is remembered here does not count if another dispatcher sent it there later.
        """
        where = self.sent_from_here(job)
        if where in (None, substation):
            return False
        return not where or not self._went_there(job, substation)

    def was_reclaimed(self, job: str, substation: str) -> bool:
        """Return whether a job was reclaimed from a substation after it was sent from here.

        Then where it was sent from here does not count any more.
        """
        where = self.sent_from_here(job)
        return bool(where) and (where == substation or self._went_there(job, substation))

    def needs_log_for(self, job: str, substation: str) -> bool:
        """Return whether only the log shows when a job was reclaimed from that substation."""
        return self.sent_from_here(job) not in (None, "", substation)

    def _went_there(self, job: str, substation: str) -> bool:
        """Return whether another dispatcher sent a job there, after it was sent from here."""
        where, at = self.sent_from_here(job) or "", self.sent_from_here_at(job)
        return self.assigned_since(job, substation, where, at)

    def _assign(self, event: Event) -> None:
        if not event.substation:
            return
        new: Assigned = (event.at, event.attempt, event.substation)
        record = self._heard_of(event.job)
        if (replays := kinds.replays(event)) > record.assigned_after:
            record.assigned_after = replays
        latest = record.assigned
        if latest is None:
            record.assigned = new
            return
        record.trail = _longer(record.trail or ((latest[0], latest[2]),), (new[0], new[2]))
        if latest[2] == new[2]:
            record.assigned = max(latest, new)
        elif new > latest:
            record.assigned, record.elsewhere_at = new, latest[0]
        else:
            record.elsewhere_at = max(record.elsewhere_at, new[0])

    def _put_aside(self, event: Event) -> None:
        # without the substation: a reader would count one job less there
        replays, end = kinds.replays(event), (event.at, str(event.kind), "", event.reason)
        record = self._heard_of(event.job)
        before, last = record.aside or (replays, end)
        record.aside = max(before, replays), max(last, end)

    def _charge(self, event: Event) -> None:
        if not event.substation:
            return
        record = self._heard_of(event.job)
        if record.end is None:
            new = (event.at, event.substation)
            record.charging = new if record.charging is None else max(record.charging, new)

    def _of(self, job: str) -> _Record:
        return self._records.get(job, _UNKNOWN)

    def _heard_of(self, job: str) -> _Record:
        """Return the record of a job, to be written to; make it the newest."""
        record = self._records.get(job)
        if record is not None:
            self._records.move_to_end(job)
            return record
        record = self._records[job] = _Record()
        if len(self._records) > self._max_jobs:
            self._records.popitem(last=False)
        return record


def _elsewhere_at(record: _Record, substation: str) -> float:
    """Return when a job was last assigned to another substation; minus infinity if never."""
    if record.assigned is None:
        return -inf
    at, _, where = record.assigned
    return record.elsewhere_at if where == substation else at


def _longer(
    trail: tuple[tuple[float, str], ...], assignment: tuple[float, str]
) -> tuple[tuple[float, str], ...]:
    return trail if assignment in trail else (*trail, assignment)[-MAX_TRAIL:]


def _event(job: str, end: End, detail: dict[str, Any] | None = None) -> Event:
    at, kind, substation, reason = end
    return Event(kind, at, job, substation, reason=reason, detail=detail or {})
