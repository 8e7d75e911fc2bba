"""What the event log says of every job, and of the substations: built event by event. Pure.

Events of different writers arrive in any order, and any of them twice: what comes out is the same.
The memory is bounded: what ended longest ago is forgotten first, and decisions are kept packed.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, NamedTuple

from grid import parking
from grid.events import ENDED, SUBSTATIONS, Event, State

_TAKEN: Final = frozenset(State)
_FINAL: Final = frozenset({State.COMPLETED, State.EXPIRED})  # from the others a job may be replayed
SLACK, FEW = 1.25, 1_000  # how much longer than needed the order may be, before it is made anew


class Visit(NamedTuple):
    """When a job came to a state, in Unix seconds, at which substation, and why.

    ``replays`` is how often an operator had replayed it by then.
    """

    at: float
    substation: str
    reason: str
    replays: int = 0


class Assignment(NamedTuple):
    """When and where a job was sent; ``record`` is the decision, packed to a tenth of its size.

    Of two the later replay's is the later one.
    """

    replays: int
    at: float
    attempt: int
    substation: str
    asked_at: float | None
    record: bytes


@dataclass(slots=True)
class Job:
    """One job as far as the log tells. ``times`` has each state's time in Unix seconds.

    All of it follows from ``queued``, the latest ``assigned`` and ``charging`` (a job may be sent
    and charged more than once), the first of each of the ``ends``, and all ``completions``. What
    was before the latest of its ``replays`` is over.
    """

    id: str
    number: int
    status: State = State.QUEUED
    substation: str | None = None
    attempt: int = 0
    times: dict[State, float] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    replays: int = 0
    replayed: Visit | None = None
    queued: Event | None = None
    assigned: Assignment | None = None
    charging: Visit | None = None
    ends: dict[State, Visit] = field(default_factory=dict)
    completions: set[tuple[str, float]] = field(default_factory=set)

    @property
    def decided(self) -> bool:
        """Tell whether it was ever sent anywhere."""
        return self.assigned is not None

    @property
    def decision(self) -> Mapping[str, Any] | None:
        """The record of the decision by which it was last sent."""
        if self.assigned is None:
            return None
        record: Mapping[str, Any] = json.loads(zlib.decompress(self.assigned.record))
        return record

    @property
    def duplicates(self) -> int:
        """How often it was completed beyond the first time."""
        return max(0, len(self.completions) - 1)


class Projection:
    """The jobs by id, in the order in which the log first named them.

    At most ``most`` jobs are kept, and none that ended more than ``oldest`` seconds ago.
    """

    def __init__(self, most: int, oldest: float = inf) -> None:
        self._most = most
        self._oldest = oldest
        self._jobs: OrderedDict[str, Job] = OrderedDict()  # a dict is slow to give its oldest
        self._order: list[Job] = []
        self._ended: OrderedDict[str, Job] = OrderedDict()  # the first that ended first
        self._named = 0
        self.by_status: Counter[State] = Counter()
        self.substations: Event | None = None

    def apply(self, event: Event) -> Job | None:
        """Take in one event; gives the job it changed."""
        if event.kind == SUBSTATIONS:
            newer = self.substations is None or event.at >= self.substations.at
            if newer and _names_substations(event):
                self.substations = event
            return None
        if event.kind not in _TAKEN:
            return None
        job = self._jobs.get(event.job) or self._new(event)
        before = job.status
        _take(job, State(event.kind), event)
        _conclude(job)
        self._count(job, before)
        return job

    def get(self, id: str) -> Job | None:
        """Give a job, or None where the log does not name it."""
        return self._jobs.get(id)

    def known_substations(self) -> frozenset[str]:
        """Give the ids of the substations there are, as far as the dispatcher has told."""
        told = self.substations.detail.get("substations", []) if self.substations else []
        return frozenset(each["substation"] for each in told)

    def after(self, id: str | None) -> Iterator[Job]:
        """Give the jobs that came after one, or all, the oldest first.

        Raises ``KeyError`` where the log does not name that one.
        """
        start = 0
        if id is not None:
            start = bisect_right(self._order, self._jobs[id].number, key=lambda each: each.number)
        for index in range(start, len(self._order)):
            job = self._order[index]
            if self._jobs.get(job.id) is job:
                yield job

    def _new(self, event: Event) -> Job:
        self._named += 1
        job = self._jobs[event.job] = Job(event.job, self._named)
        self._order.append(job)
        self.by_status[job.status] += 1
        if len(self._jobs) > self._most:
            self._drop_one()
        while self._ended and _ended_at(next(iter(self._ended.values()))) < event.at - self._oldest:
            self._drop_one()
        if len(self._order) > SLACK * len(self._jobs) + FEW:
            self._order = list(self._jobs.values())
        return job

    def _count(self, job: Job, before: State) -> None:
        if job.status is before:
            return
        self.by_status[before] -= 1
        self.by_status[job.status] += 1
        if job.status not in ENDED:
            self._ended.pop(job.id, None)
        elif before not in ENDED:
            self._ended[job.id] = job

    def _drop_one(self) -> None:
        first = self._ended or self._jobs
        job = next(iter(first.values()))
        self._ended.pop(job.id, None)
        del self._jobs[job.id]
        self.by_status[job.status] -= 1


def _names_substations(event: Event) -> bool:
    """Tell whether an event is a snapshot of substations; whoever writes events could send it."""
    rows = event.detail.get("substations")
    return isinstance(rows, list) and all(
        isinstance(each, dict) and isinstance(each.get("substation"), str) for each in rows
    )


def _take(job: Job, kind: State, event: Event) -> None:
    """Note an event, so that neither the order of events nor their repetition matters."""
    job.attempt = max(job.attempt, event.attempt)
    replays = parking.replays(event.detail)
    visit = Visit(event.at, event.substation, event.reason, replays)
    job.replays = max(job.replays, replays)
    if kind is State.QUEUED and replays:
        job.replayed = _later_replay(visit, job.replayed or visit)
    elif kind is State.QUEUED:
        job.queued = event
    elif kind is State.ASSIGNED:
        assignment = _assignment(event)
        job.assigned = max(assignment, job.assigned or assignment)
    elif kind is State.CHARGING:
        job.charging = max(visit, job.charging or visit)
    else:
        job.ends[kind] = _later_replay(visit, job.ends.get(kind, visit))
        if kind is State.COMPLETED:
            job.completions.add((event.substation, event.at))


def _later_replay(one: Visit, other: Visit) -> Visit:
    """Give the one of the later replay; of the same, the earlier."""
    return min(one, other, key=lambda visit: (-visit.replays, visit))


def _assignment(event: Event) -> Assignment:
    asked_at = event.detail.get("requested_at")
    return Assignment(
        parking.replays(event.detail),
        event.at,
        event.attempt,
        event.substation,
        asked_at if isinstance(asked_at, int | float) else None,
        zlib.compress(json.dumps(event.detail).encode(), level=1),
    )


def _ended_at(job: Job) -> float:
    return min(visit.at for visit in job.ends.values())


def _conclude(job: Job) -> None:
    """Set what follows from the events that are known."""
    assigned, charging, end = _since_replay(job), job.charging, _end(job)
    if charging and job.replays and charging.at < _aside_until(job):
        charging = None
    if assigned and charging and assigned.substation != charging.substation:
        # it did not stay where it charged: it was sent elsewhere since, and does not charge yet
        charging = charging if charging.at >= assigned.at else None
    job.status = end or (
        State.CHARGING if charging else State.ASSIGNED if assigned else State.QUEUED
    )
    last = job.ends[end] if end is State.COMPLETED else charging or assigned
    job.substation = last.substation if last else None
    job.reason = _reason(job, end)
    job.request = job.queued.detail if job.queued else {}
    times = {
        State.QUEUED: _asked(job),
        State.ASSIGNED: assigned.at if assigned else None,
        State.CHARGING: charging.at if charging else None,
        **{state: job.ends[state].at for state in sorted(job.ends)},
    }
    job.times = {state: at for state, at in times.items() if at is not None}


def _reason(job: Job, end: State | None) -> str | None:
    """Tell why it ended so; else, where an operator replayed it, what was said of that."""
    said = (job.ends[end] if end else None, job.replayed)
    return next((each.reason for each in said if each is not None and each.reason), None)


def _since_replay(job: Job) -> Assignment | None:
    """Give the assignment, unless the job was replayed since."""
    known = job.assigned
    return known if known is not None and known.replays == job.replays else None


def _aside_until(job: Job) -> float:
    """Tell when a job was put aside, for all that is known; before all time if never."""
    return max((job.ends[state].at for state in job.ends.keys() - _FINAL), default=-inf)


def _end(job: Job) -> State | None:
    """Tell which end came first, and so is the one that counts.

    From where it was put aside it may have been replayed, or cancelled.
    """
    ends = {
        state: visit
        for state, visit in job.ends.items()
        if state in _FINAL or visit.replays == job.replays
    }
    if State.CANCELLED in ends:
        ends.pop(State.PARKED, None)
    return min(ends, key=lambda state: (ends[state], state)) if ends else None


def _asked(job: Job) -> float | None:
    """Tell when the request came: by its own event, else by the decision's record."""
    if job.queued is not None:
        return job.queued.at
    return job.assigned.asked_at if job.assigned else None
