"""What the jobs amount to: rates, waits and loads, now and in the last minutes. Pure.

A caller applies each change of a job once, and calls ``end_second`` once a second.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, inf
from operator import itemgetter
from typing import Any, Final, NamedTuple

from api.jobs.job import Job
from api.jobs.projection import Applied
from grid.events import ASSIGNED, CHARGING, COMPLETED, MAX_FIGURE, QUEUED

HISTORY_SECONDS: Final = 300
MINUTE: Final = 60  # seconds
RATE_SECONDS: Final = 10  # over which rates and latencies are taken
MAX_WAITS: Final = 2_000  # of one second that are kept, for its latency


class Sample(NamedTuple):
    """What was counted in one second, and what held at its end.

    ``loads`` are those of the substations ``names``; ``spread`` is the difference between the
    highest and the lowest utilisation of those that are eligible.
    """

    at: float
    accepted: int
    assigned: int
    completed: int
    waiting: int
    spread: float | None
    p50: float | None
    p95: float | None
    names: tuple[str, ...]
    loads: Sequence[float]


class _Second:
    """What was counted since the last second ended."""

    def __init__(self) -> None:
        self.accepted = 0
        self.assigned: Counter[str] = Counter()
        self.completed: Counter[str] = Counter()
        self.waits: list[float] = []


class Figures:
    """The figures of the jobs that change; the jobs that waited before are given to ``begin``."""

    def __init__(self) -> None:
        # by job, since when it waits, the oldest first; infinite where that is not known
        self._waiting: dict[str, float] = {}
        self._later: dict[str, float] = {}  # by job, when it may begin: until then it does not wait
        self._next_at = inf  # or earlier: when the first of these may
        self._second = _Second()
        self._seconds: deque[_Second] = deque(maxlen=MINUTE)
        self._last_minute: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        self.history: deque[Sample] = deque(maxlen=HISTORY_SECONDS)

    def begin(self, waiting: Iterable[Job], now: float) -> None:
        """Begin with all jobs that wait ``now`` (Unix seconds), whatever was applied before."""
        self._later, self._next_at, since = {}, inf, {}
        for job in waiting:
            if job.may_begin_at > now:
                self._add_later(job)
            else:
                since[job.id] = _or_last(job.waits_since)
        self._waiting = dict(sorted(since.items(), key=itemgetter(1)))

    def apply(self, applied: Applied) -> None:
        """Count an event."""
        second, kind, job, before = self._second, applied.kind, applied.job, applied.before
        status, substation = job.status, applied.event.substation
        if status is QUEUED:
            if status is not before or kind is None or not applied.had_request:
                self._add(job, applied.at)
        elif before is QUEUED:
            self._waiting.pop(job.id, None)
            self._later.pop(job.id, None)
        if not applied.had_request and job.queued is not None:
            second.accepted += 1
        if kind is ASSIGNED:
            second.assigned[substation] += 1
        elif kind is COMPLETED:
            if before is not COMPLETED:
                second.completed[substation] += 1
        elif kind is CHARGING and len(second.waits) < MAX_WAITS:
            since = job.waits_since
            if since is not None:
                second.waits.append(max(0.0, applied.at - since))

    def _add(self, job: Job, now: float) -> None:
        """Add a job that waits, or will, instead of what was known of it."""
        self._waiting.pop(job.id, None)
        self._later.pop(job.id, None)
        if job.may_begin_at > now:
            self._add_later(job)
        else:
            self._waiting[job.id] = _or_last(job.waits_since)

    def _add_later(self, job: Job) -> None:
        self._later[job.id] = job.may_begin_at
        self._next_at = min(self._next_at, job.may_begin_at)

    def _admit(self, now: float) -> None:
        """Count those that may begin by now as waiting from then on."""
        if now < self._next_at:
            return
        begun = [(job, at) for job, at in self._later.items() if at <= now]
        for job, at in sorted(begun, key=itemgetter(1)):
            del self._later[job]
            self._waiting[job] = at
        self._next_at = min(self._later.values(), default=inf)

    def end_second(self, at: float, rows: Iterable[Mapping[str, Any]]) -> None:
        """End a second at ``at`` (Unix seconds), with the substations as they are now."""
        self._admit(at)
        if len(self._seconds) == MINUTE:
            self._add_to_minute(self._seconds[0], -1)
        self._seconds.append(self._second)
        self._add_to_minute(self._second, 1)
        second, self._second = self._second, _Second()
        known = [row for row in rows if is_figure(row.get("load"))]
        self.history.append(
            Sample(
                at,
                second.accepted,
                second.assigned.total(),
                second.completed.total(),
                self.waiting,
                _spread(known),
                *self.latency(),
                tuple(row["substation"] for row in known),
                [row["load"] for row in known],
            )
        )

    def _add_to_minute(self, second: _Second, sign: int) -> None:
        counted = (second.assigned, second.completed)
        for total, part in zip(self._last_minute, counted, strict=True):
            for name, count in part.items():
                total[name] += sign * count
                if not total[name]:
                    del total[name]

    @property
    def waiting(self) -> int:
        """Return how many jobs wait for their substation: not those that may begin only later."""
        return len(self._waiting)

    @property
    def oldest_at(self) -> float | None:
        """Return since when the job waits that waits longest, in Unix seconds, if that is known."""
        oldest = next(iter(self._waiting.values()), inf)
        return oldest if oldest < inf else None

    def rates(self) -> dict[str, float]:
        """Return how many requests were accepted, assigned and completed a second, lately."""
        last = list(self.history)[-RATE_SECONDS:]
        count = max(1, len(last))
        return {
            name: round(sum(getattr(each, name) for each in last) / count, 2)
            for name in ("accepted", "assigned", "completed")
        }

    def latency(self) -> tuple[float | None, float | None]:
        """Return how long it took from request to session lately: the median and the 95th of 100.

        None if no session began.
        """
        waits = sorted(wait for each in list(self._seconds)[-RATE_SECONDS:] for wait in each.waits)
        return _quantile(waits, 0.5), _quantile(waits, 0.95)

    def last_minute(self) -> dict[str, tuple[int, int]]:
        """Return how many jobs were assigned to each substation, and completed there."""
        assigned, completed = self._last_minute
        return {name: (assigned[name], completed[name]) for name in assigned.keys() | completed}


def _or_last(since: float | None) -> float:
    return inf if since is None else since


def is_figure(value: object) -> bool:
    """Return whether a value from the log is a number to compute with."""
    return type(value) in (int, float) and 0 <= value <= MAX_FIGURE  # type: ignore[operator]


def _spread(rows: Iterable[Mapping[str, Any]]) -> float | None:
    shares = [
        row["utilisation"]
        for row in rows
        if (row.get("eligible") or row.get("reason") == "full")
        and is_figure(row.get("utilisation"))
    ]
    return round(max(shares) - min(shares), 4) if shares else None


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return round(ordered[ceil(share * len(ordered)) - 1], 3) if ordered else None
