"""What the event log says of single jobs, as far as the dispatcher has to know it. Pure.

The answers do not depend on the order in which events are read, nor on how often, but for what was
sent since (``sent_since``); only what was forgotten is missing. Memory is bounded: what was told
first is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Any, Final, TypeVar

from grid import parking
from grid.events import ASIDE, FINAL, Event, State

TRAIL_MOST: Final = 4  # assignments of one job whose order is remembered

V = TypeVar("V")
Assigned = tuple[float, int, str]  # when, which attempt, where
End = tuple[float, str, str, str]  # when, which state, where, why


class Progress:
    """The jobs that events were read of; of each kind of news at most ``most`` are remembered."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ended: OrderedDict[str, End] = OrderedDict()  # the first end
        # after how many replays it was put aside the last time, and how
        self._aside: OrderedDict[str, tuple[int, End]] = OrderedDict()
        # the latest assignment, and when the latest to any other substation was
        self._assigned: OrderedDict[str, tuple[Assigned, float]] = OrderedDict()
        # of those assigned more than once: when and where to, in the order of the first reading
        self._trail: OrderedDict[str, tuple[tuple[float, str], ...]] = OrderedDict()
        self._charging: OrderedDict[str, tuple[float, str]] = OrderedDict()  # since when, and where

    def take(self, event: Event) -> None:
        """Apply an event; those that are no news of a job's way are passed over."""
        kind = event.kind
        if kind == State.ASSIGNED:
            self._assign(event)
        elif kind == State.CHARGING:
            self._charge(event)
        elif kind in FINAL:
            self._charging.pop(event.job, None)
            end = event.at, str(event.kind), event.substation, event.reason
            self._keep(self._ended, event.job, min(end, self._ended.get(event.job, end)))
        elif kind in ASIDE:
            self._put_aside(event)

    def ended(self, job: str, replays: int = 0, asked_at: float = -inf) -> bool:
        """Return whether nothing more happens to a job that was replayed so often.

        That it was put aside before it was asked for, in Unix seconds, is no end: its sender has
        mended it.
        """
        if job in self._ended:
            return True
        aside = self._aside.get(job)
        return aside is not None and aside[0] >= replays and aside[1][0] >= asked_at

    def end(self, job: str) -> Event | None:
        """Return the event that ended a job, or put it aside the last time, if that was told."""
        aside = self._aside.get(job)
        if (final := self._ended.get(job)) is not None:
            return _event(job, final)
        return None if aside is None else _event(job, aside[1], parking.noted(aside[0]))

    def sent_to(self, job: str) -> str | None:
        """Return the substation a job was last assigned to, if that was told."""
        known = self._assigned.get(job)
        return None if known is None else known[0][2]

    def sent_at(self, job: str) -> float:
        """Return when a job was last assigned, in Unix seconds; before all time if never."""
        known = self._assigned.get(job)
        return -inf if known is None else known[0][0]

    def sent_since(self, job: str, substation: str, where: str, at: float) -> bool:
        """Return whether a job went to that substation after it went ``where``.

        That was decided ``at``, in Unix seconds. Either by the clocks of the dispatchers, which may
        differ, or by the order in the log, to which one whose link broke writes late: what one of
        them says may be so.
        """
        known, trail = self._assigned.get(job), self._trail.get(job, ())
        if known is not None and known[0][2] == substation and known[0][0] > at:
            return True
        if (at, where) not in trail:
            return False
        later = trail[trail.index((at, where)) + 1 :]
        return any(each[1] == substation for each in later)

    def charging_at(self, job: str) -> str | None:
        """Return the substation that charges a job now, as far as is told.

        A session is over when its job has ended, or was put aside or assigned elsewhere after it
        began.
        """
        session = self._charging.get(job)
        if session is None:
            return None
        since, where = session
        over = self._aside_at(job) >= since or self._elsewhere_at(job, where) > since
        return None if over else where

    def _aside_at(self, job: str) -> float:
        """When a job was last put aside; before all time if never."""
        known = self._aside.get(job)
        return -inf if known is None else known[1][0]

    def _elsewhere_at(self, job: str, substation: str) -> float:
        """When a job was last assigned to any other substation; before all time if never."""
        known = self._assigned.get(job)
        if known is None:
            return -inf
        (at, _, where), elsewhere = known
        return elsewhere if where == substation else at

    def _assign(self, event: Event) -> None:
        if not event.substation:
            return
        new: Assigned = (event.at, event.attempt, event.substation)
        known = self._assigned.get(event.job)
        if known is None:
            self._keep(self._assigned, event.job, (new, -inf))
            return
        latest, elsewhere = known
        self._follow(event, latest)
        if latest[2] == new[2]:
            latest = max(latest, new)
        elif new > latest:
            latest, elsewhere = new, latest[0]
        else:
            elsewhere = max(elsewhere, new[0])
        self._keep(self._assigned, event.job, (latest, elsewhere))

    def _follow(self, event: Event, latest: Assigned) -> None:
        """Record another assignment behind those before; ``latest`` is the only one at first."""
        trail = self._trail.get(event.job, ((latest[0], latest[2]),))
        if (one := (event.at, event.substation)) not in trail:
            self._keep(self._trail, event.job, (*trail, one)[-TRAIL_MOST:])

    def _put_aside(self, event: Event) -> None:
        # not where: that would be read as one job less there
        replays, end = parking.replays(event.detail), (event.at, str(event.kind), "", event.reason)
        before, last = self._aside.get(event.job, (replays, end))
        self._keep(self._aside, event.job, (max(before, replays), max(last, end)))

    def _charge(self, event: Event) -> None:
        if not event.substation or event.job in self._ended:
            return
        new = (event.at, event.substation)
        known = self._charging.get(event.job)
        self._keep(self._charging, event.job, new if known is None else max(known, new))

    def _keep(self, memory: OrderedDict[str, V], job: str, value: V) -> None:
        memory[job] = value
        if len(memory) > self._most:
            memory.popitem(last=False)


def _event(job: str, end: End, detail: dict[str, Any] | None = None) -> Event:
    at, kind, substation, reason = end
    return Event(kind, at, job, substation, reason=reason, detail=detail or {})
