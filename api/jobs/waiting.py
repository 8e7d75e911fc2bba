"""The order of the jobs that wait, by their requests: which place each of them has. Pure.

The dispatcher's own order (``scheduling.order``), as far as it follows from the requests alone:
priority, latest start, then those without a departure, the tenants in turn and each by age, and
last those that cannot be ready any more. A number is kept for each job, not the job: very many may
wait. Those that may not begin yet, or that reserve a start, have no turn: they are held apart.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Mapping
from math import inf
from typing import Any, Final, NamedTuple

from api.jobs.job import earliest_start
from api.readiness import charging_seconds
from grid.events import is_time
from grid.messages import MAX_PRIORITY

MIN_GONE: Final = 1_000  # numbers at the front that are gone, before they are removed


class Rank(NamedTuple):
    """The turn of a job among those of its priority: those that must depart come first.

    ``value`` is the latest start of these, and of others since when they wait (Unix seconds): since
    they were requested, or might begin.
    ``tenant`` is whose those others are; empty of these, and where nobody said.
    """

    priority: int
    stays: bool
    tenant: str
    value: float


def rank_of(request: Mapping[str, Any], asked_at: float, speed: float | None = None) -> Rank:
    """Return the rank of a request, by its fields in the event log; a wrong one is ignored.

    ``speed`` is how many seconds of charging pass in one.
    """
    priority, departs = request.get("priority"), request.get("departure_time")
    level = priority if type(priority) is int and 0 <= priority <= MAX_PRIORITY else 0
    if not is_time(departs):
        tenant = request.get("tenant")
        named = tenant if isinstance(tenant, str) else ""
        since = max(asked_at, earliest_start(request))
        return Rank(level, stays=True, tenant=named, value=since)
    seconds = charging_seconds(request, speed or 1.0)
    return Rank(level, stays=False, tenant="", value=departs - seconds)


def turn_from(request: Mapping[str, Any]) -> float:
    """Return from when a job has a turn, in Unix seconds: never, if it reserves a start.

    Minus infinity if it has at once.
    """
    return inf if request.get("reserve") is True else earliest_start(request)


class WaitingOrder:
    """The ranks of all jobs that wait."""

    def __init__(self) -> None:
        self._ranks: dict[tuple[int, bool, str], _Numbers] = {}
        self._later: dict[str, tuple[float, Rank]] = {}  # by job, and from when it has a turn
        self._next_at = inf  # or earlier: when the first of these has one

    def add(self, rank: Rank) -> None:
        """Add a job."""
        self._ranks.setdefault(rank[:3], _Numbers()).add(rank.value)

    def add_later(self, job: str, rank: Rank, turn_from: float) -> None:
        """Add a job that has a turn from then on (Unix seconds)."""
        self._later[job] = turn_from, rank
        self._next_at = min(self._next_at, turn_from)

    def admit(self, now: float) -> None:
        """Add the jobs that have a turn by ``now``, in Unix seconds."""
        if now < self._next_at:
            return
        for job, (turn_from, rank) in list(self._later.items()):
            if turn_from <= now:
                del self._later[job]
                self.add(rank)
        self._next_at = min([turn_from for turn_from, _ in self._later.values()], default=inf)

    def has_turn(self, job: str) -> bool:
        """Return whether a job that was added has a turn."""
        return job not in self._later

    def remove(self, rank: Rank, job: str = "") -> None:
        """Remove a job that was added with this rank."""
        if self._later.pop(job, None) is not None:
            return
        if (numbers := self._ranks.get(rank[:3])) is not None:
            numbers.remove(rank.value)
            if not numbers:
                del self._ranks[rank[:3]]  # anybody may name any number of tenants

    def place(self, rank: Rank, now: float) -> int:
        """Return the place of a job, from 1: how many others come first that have a turn, and one.

        ``now`` is in Unix seconds. What should have begun before is late: behind the others. Of
        tenants that share, each is taken to be served in turn: their weights are not known here.
        """
        place = 1
        tenants: dict[str, _Numbers] = {}
        for (priority, stays, tenant), numbers in self._ranks.items():
            if priority > rank.priority:
                place += len(numbers)
            elif priority == rank.priority and stays:
                tenants[tenant] = numbers
        leaves = self._ranks.get((rank.priority, False, ""), _NO_NUMBERS)
        late = leaves.below(now)
        if rank.stays:
            before = tenants.pop(rank.tenant, _NO_NUMBERS).below(rank.value)
            in_turn = sum(min(len(each), before) for each in tenants.values())
            return place + len(leaves) - late + before + in_turn
        if rank.value >= now:
            return place + leaves.below(rank.value) - late
        staying = sum(map(len, tenants.values()))
        return place + len(leaves) - late + staying + leaves.below(rank.value)


class _Numbers:
    """Sorted numbers, most of which are added at the end, and removed at the front."""

    def __init__(self) -> None:
        self._numbers = array("d")
        self._first = 0

    def __len__(self) -> int:
        return len(self._numbers) - self._first

    def add(self, number: float) -> None:
        if not self or number >= self._numbers[-1]:
            self._numbers.append(number)
        else:
            insort(self._numbers, number, self._first)

    def remove(self, number: float) -> None:
        index = bisect_left(self._numbers, number, self._first)
        if index == len(self._numbers) or self._numbers[index] != number:
            return
        if index > self._first:
            del self._numbers[index]
            return
        self._first += 1  # to move all others would take long
        if self._first > MIN_GONE and 2 * self._first > len(self._numbers):
            del self._numbers[: self._first]
            self._first = 0

    def below(self, number: float) -> int:
        return bisect_left(self._numbers, number, self._first) - self._first


_NO_NUMBERS: Final = _Numbers()
