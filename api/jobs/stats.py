"""What happened in each hour at each substation: counts, rates and waits. Pure.

An event that is repeated, or comes in another order, changes nothing: what a job counted before is
taken back first. Jobs that are forgotten since still count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import log2
from typing import Final, TypeAlias

from api.jobs.job import Ended, Job, Visit, ends_of
from grid.events import ENDED, Event, State

HOUR: Final = 3600
DAY: Final = 24 * HOUR
MINUTE: Final = 60
MAX_HOURS: Final = 48  # the event log has a day at most
MAX_HOURS_AHEAD: Final = 24
MAX_MINUTES: Final = 5
SHORTEST: Final = 0.001  # seconds; a shorter wait counts as this
STEPS: Final = 8  # a doubling of the wait has so many: quantiles are exact to 5 %
SESSIONS: Final = "sessions"
REQUESTS: Final = "requests"

KINDS: Final = (REQUESTS, SESSIONS, *sorted(ENDED))

Before: TypeAlias = tuple[Event | None, float | None, Visit | None, Ended]


class Cell:
    """What happened in some time, at some substations; ``waits`` counts them by their step."""

    __slots__ = ("counts", "energy_kwh", "wait_seconds", "waits")

    def __init__(self) -> None:
        self.counts = dict.fromkeys(KINDS, 0)
        self.energy_kwh = 0.0  # that sessions had delivered when they ended
        self.wait_seconds = 0.0
        self.waits: dict[int, int] = {}

    def copy(self) -> Cell:
        """Return a cell with the same counts, which stay as they are."""
        cell = Cell()
        cell.counts = self.counts.copy()
        cell.energy_kwh, cell.wait_seconds = self.energy_kwh, self.wait_seconds
        cell.waits = self.waits.copy()
        return cell

    def add(self, other: Cell) -> None:
        """Add what another one counted."""
        for kind, number in other.counts.items():
            self.counts[kind] += number
        self.energy_kwh += other.energy_kwh
        self.wait_seconds += other.wait_seconds
        for step, number in other.waits.items():
            self.waits[step] = self.waits.get(step, 0) + number

    def add_wait(self, seconds: float, sign: int) -> None:
        """Count the wait of one session, or take it back."""
        self.wait_seconds += sign * seconds
        step = round(STEPS * log2(seconds / SHORTEST)) if seconds > SHORTEST else 0
        self.waits[step] = self.waits.get(step, 0) + sign

    @property
    def mean_wait(self) -> float | None:
        """Return the mean wait in seconds; None if there was none."""
        number = sum(self.waits.values())
        return max(0.0, self.wait_seconds / number) if number > 0 else None

    def wait(self, share: float) -> float | None:
        """Return how long at most this share of the sessions waited; None if there was none."""
        left = share * sum(self.waits.values())
        for step, number in sorted(self.waits.items()):
            left -= number
            if number > 0 and left <= 0:
                return float(SHORTEST * 2 ** (step / STEPS))
        return None


class Stats:
    """What happened, by hour and substation, and in the last minutes."""

    def __init__(self) -> None:
        self._cells: dict[int, dict[str, Cell]] = {}  # by hours since 1970, and substation
        self._minutes: dict[int, dict[str, int]] = {}  # by minutes since 1970
        # in kWh, by days since 1970, and substation
        self._energy: defaultdict[int, defaultdict[str, float]]
        self._energy = defaultdict(lambda: defaultdict(float))
        # those of the event before, which are nearly always those of the next one as well
        self._hour: dict[str, Cell] = {}
        self._minute: dict[str, int] = {}
        self._hour_begin = self._hour_end = self._minute_begin = self._minute_end = 0.0

    def apply(self, kind: State | None, before: Before, job: Job, now: float) -> None:
        """Count an event that was applied to a job ``now``; times are Unix seconds.

        ``kind`` is None if the job was told of its start. ``before`` is what was known of it: when
        it was queued, when it might begin (None if that is the same now), its session, its ends.
        """
        queued, begins_at, charging, ended = before
        if kind in ENDED:
            before_it = ends_of(ended).get(kind) if ended else None
            if before_it is not None:
                self._end(before_it, kind, -1, now)
            self._end(job.ends[kind], kind, 1, now)
            return
        may_begin_at = job.may_begin_at
        if begins_at is None:
            begins_at = may_begin_at
        if queued is job.queued and begins_at == may_begin_at and charging == job.charging:
            return
        if queued is not job.queued:
            if queued is not None:
                self._count(queued.at, "", REQUESTS, -1, now)
            if job.queued is not None:
                self._count(job.queued.at, "", REQUESTS, 1, now)
        if charging is not None:
            self._session(charging, _waits_since(queued, begins_at), -1, now)
        if job.charging is not None:
            self._session(job.charging, _waits_since(job.queued, may_begin_at), 1, now)

    def cells(self, since: float, until: float) -> Iterator[tuple[int, str, Cell]]:
        """Yield what was counted in the hours that overlap a time: hour, substation and counts.

        The hour is that of its beginning, in Unix seconds.
        """
        for hour, cells in sorted(self._cells.items()):
            if (hour + 1) * HOUR > since and hour * HOUR < until:
                for substation, cell in sorted(cells.items()):
                    yield hour * HOUR, substation, cell

    def a_second(self, kind: str, now: float) -> float:
        """Return how many a second there were in the last full minute."""
        minute = self._minutes.get(int(now // MINUTE) - 1)
        return max(0, minute[kind]) / MINUTE if minute else 0.0

    def energy(self, now: float) -> dict[str, float]:
        """Return the kWh that each substation delivered on the day of ``now``, in UTC."""
        found = self._energy.get(int(now // DAY))
        return {each: round(kwh, 1) for each, kwh in found.items()} if found else {}

    def _end(self, visit: Visit, kind: State, sign: int, now: float) -> None:
        cell = self._count(visit.at, visit.substation, kind, sign, now)
        if not visit.energy_kwh:
            return
        if cell is not None:
            cell.energy_kwh += sign * visit.energy_kwh
        if visit.at > now - MAX_HOURS * HOUR:
            day = int(min(visit.at, now) // DAY)  # its substation's clock may be ahead
            self._energy[day][visit.substation] += sign * visit.energy_kwh

    def _session(self, visit: Visit, since: float | None, sign: int, now: float) -> None:
        cell = self._count(visit.at, visit.substation, SESSIONS, sign, now)
        if cell is not None and since is not None:
            cell.add_wait(max(0.0, visit.at - since), sign)

    def _count(self, at: float, substation: str, kind: str, sign: int, now: float) -> Cell | None:
        """Count an event; None if its time is too long ago, or far ahead (a wrong clock)."""
        if not self._hour_begin <= at < self._hour_end and not self._enter_hour(at, now):
            return None
        if self._minute_begin <= at < self._minute_end or self._enter_minute(at, now):
            self._minute[kind] += sign
        if (cell := self._hour.get(substation)) is None:
            cell = self._hour[substation] = Cell()
        cell.counts[kind] += sign
        return cell

    def _enter_hour(self, at: float, now: float) -> bool:
        """Make the hour of a time the present one, if it is counted; forget the oldest ones."""
        if not now - MAX_HOURS * HOUR < at < now + MAX_HOURS_AHEAD * HOUR:
            return False
        hour = int(at // HOUR)
        if hour not in self._cells:
            first = int(now // HOUR) - MAX_HOURS
            self._cells = {each: cells for each, cells in self._cells.items() if each >= first}
            for day in [each for each in self._energy if (each + 1) * DAY <= first * HOUR]:
                del self._energy[day]
        self._hour = self._cells.setdefault(hour, {})
        self._hour_begin, self._hour_end = hour * HOUR, (hour + 1) * HOUR
        return True

    def _enter_minute(self, at: float, now: float) -> bool:
        """Make the minute of a time the present one, if it is one of the last."""
        if at < now - MAX_MINUTES * MINUTE:
            return False
        minute = int(at // MINUTE)
        if minute not in self._minutes:
            first = int(now // MINUTE) - MAX_MINUTES
            self._minutes = {each: kinds for each, kinds in self._minutes.items() if each >= first}
        self._minute = self._minutes.setdefault(minute, dict.fromkeys(KINDS, 0))
        self._minute_begin, self._minute_end = minute * MINUTE, (minute + 1) * MINUTE
        return True


def _waits_since(queued: Event | None, begins_at: float) -> float | None:
    """Return since when a job waits: its request, or when it may begin; None if not known."""
    return None if queued is None else max(queued.at, begins_at)
