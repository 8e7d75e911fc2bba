"""The order in which waiting jobs get their turn. Pure: time is an argument, in Unix seconds.

``ORDER`` names one of them, or the import path of a class of one's own: with a ``name``, and a
method ``turns`` that returns a turn for each job that waits. The lowest is next. The wait queue
asks again as time passes, and whenever many jobs have come or gone (``scheduling.wait_queue``), as
long as one of those that wait has a departure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from heapq import heapify, heappop, heappush
from itertools import groupby
from math import inf
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias

from grid.messages import MAX_PRIORITY, ChargeRequest

Rank: TypeAlias = tuple[float, float, float, str]
Turn: TypeAlias = tuple[float | str, ...]

DUE_AFTER_SECONDS: Final = 1800.0


class Requirements(NamedTuple):
    """What a job needs of a substation, and what its turn follows from.

    Args:
        rank: Its negative priority, its latest start, when it was requested, and its id.
        allowed: The only substations that will do; empty where any will.
        power_kw: What it draws.
        departs_at: When its vehicle leaves, in Unix seconds; infinite where nobody said.
        seconds: How long it takes to charge; 0 where nobody said how much energy it needs.
    """

    rank: Rank
    allowed: tuple[str, ...]
    power_kw: float
    departs_at: float
    seconds: float = 0.0

    @property
    def requested_at(self) -> float:
        """Return when it was requested, in Unix seconds."""
        return self.rank[2]

    @property
    def latest_start(self) -> float:
        """Return when it must begin to be done by the departure; infinite without one."""
        return self.departs_at - self.seconds


def requirements(request: ChargeRequest, speed: float = 1.0) -> Requirements:
    """Return what a request needs, where so many seconds of charging pass in one."""
    departs = inf if request.departure_time is None else float(request.departure_time)
    power_kw = request.power_kw
    seconds = 3600.0 * (request.requested_energy_kwh or 0.0) / power_kw / speed
    rank = (float(-request.priority), departs - seconds, request.requested_at, request.id)
    return Requirements(rank, request.eligible_substations, power_kw, departs, seconds)


class Order(Protocol):
    """A way to order the jobs that wait."""

    @property
    def name(self) -> str:
        """Return what the documentation and logs call it."""

    def turns(
        self, jobs: Sequence[Requirements], free_at: Sequence[float], now: float
    ) -> Sequence[Turn]:
        """Return the turn of each job, in the order of ``jobs``; the lowest is next.

        ``free_at`` is when the first connectors are expected to be free, ascending: as many as
        there are jobs, or all. It is empty if no substation can be sent anything.
        """


class FifoOrder:
    """The highest priority first; within a priority, first come, first served."""

    name: Final = "fifo"

    def turns(
        self,
        jobs: Sequence[Requirements],
        free_at: Sequence[float],  # noqa: ARG002  # it does not matter here
        now: float,  # noqa: ARG002
    ) -> Sequence[Turn]:
        """Return the priority and the time of each request."""
        return [(each.rank[0], *each.rank[2:]) for each in jobs]


class LaxityOrder:
    """The highest priority first; within a priority, the one that must begin soonest."""

    name: Final = "laxity"

    def turns(
        self,
        jobs: Sequence[Requirements],
        free_at: Sequence[float],  # noqa: ARG002  # it does not matter here
        now: float,  # noqa: ARG002
    ) -> Sequence[Turn]:
        """Return the rank of each job."""
        return [each.rank for each in jobs]


class Group(IntEnum):
    """The groups of jobs within a priority, in their order."""

    KEPT = 0  # all of these can be done by their departures
    POSSIBLE = 1  # could be done by their departures if they displaced others
    UNBOUND = 2  # have no departure
    LATE = 3  # cannot be done by their departures any more


class DeadlineOrder:
    """The most jobs that can be done by their departures, within each priority.

    Those are found by Moore and Hodgson's algorithm: the jobs take the connectors in the order of
    their departures, and whenever one would be late, the longest is left out (of equally long ones,
    that with the least energy). Those that are kept come by their latest start; then those left
    out, the shortest first; then those without a departure, by age; then those that are late in
    any case. So that none without a departure waits for ever, one that has waited for
    ``due_after`` seconds is due, and comes first; that may differ by priority.

    Sources: J. M. Moore, "An n job, one machine sequencing algorithm for minimizing the number of
    late jobs", Management Science 15 (1968); for several machines it is a heuristic.
    """

    name: Final = "deadline"

    def __init__(self, due_after: Mapping[int, float] = MappingProxyType({})) -> None:
        self._due_after = [
            due_after.get(priority, DUE_AFTER_SECONDS) for priority in range(MAX_PRIORITY + 1)
        ]

    def turns(
        self, jobs: Sequence[Requirements], free_at: Sequence[float], now: float
    ) -> Sequence[Turn]:
        """Return the priority, the group, and the turn within that, of each job."""
        connectors = _Connectors(free_at, now)
        found: list[Turn] = [()] * len(jobs)
        numbers = sorted(range(len(jobs)), key=lambda number: jobs[number].rank[0])
        for negative, members in groupby(numbers, key=lambda number: jobs[number].rank[0]):
            due_after = self._due_after[min(MAX_PRIORITY, max(0, int(-negative)))]
            planned: list[int] = []
            for number in members:
                job = jobs[number]
                if job.latest_start < inf:
                    if job.latest_start >= now:
                        planned.append(number)
                    else:
                        found[number] = _turn(job, Group.LATE, job.latest_start)
                elif job.requested_at + due_after <= now:
                    connectors.take(job.seconds)
                    found[number] = _turn(job, Group.KEPT, job.requested_at + due_after)
                else:
                    found[number] = _turn(job, Group.UNBOUND, job.requested_at)
            kept = connectors.plan(planned, jobs)
            for number in planned:
                job = jobs[number]
                found[number] = (
                    _turn(job, Group.KEPT, job.latest_start)
                    if number in kept
                    else _turn(job, Group.POSSIBLE, job.seconds)
                )
        return found


def _turn(job: Requirements, group: Group, value: float) -> Turn:
    return (job.rank[0], group, value, *job.rank[2:])


class _Connectors:
    """When each connector is free, with what is planned on it."""

    def __init__(self, free_at: Sequence[float], now: float) -> None:
        self._free_at = [max(now, at) for at in free_at]
        self._heap = [(at, number) for number, at in enumerate(self._free_at)]
        heapify(self._heap)

    def take(self, seconds: float) -> None:
        """Plan a session on the connector that is free first, whenever it ends."""
        if self._heap:
            at, connector = self._first()
            self._set(connector, at + seconds)

    def plan(self, numbers: Sequence[int], jobs: Sequence[Requirements]) -> set[int]:
        """Plan the most of these jobs that can be done by their departures; return which."""
        if not self._heap:
            return set(numbers)
        kept: set[int] = set()
        longest: list[tuple[float, float, int, int]] = []  # a heap of those kept
        for number in sorted(numbers, key=lambda each: jobs[each].departs_at):
            job = jobs[number]
            at, connector = self._first()
            if at + job.seconds > job.departs_at:
                worst = longest[0] if longest else None
                if worst is None or worst[:2] >= _length(job):
                    continue
                # the jobs behind it on its connector begin so much earlier
                seconds, _, out, its_connector = heappop(longest)
                kept.remove(out)
                self._set(its_connector, self._free_at[its_connector] + seconds)
                at, connector = self._first()
                if at + job.seconds > job.departs_at:
                    continue
            self._set(connector, at + job.seconds)
            kept.add(number)
            heappush(longest, (*_length(job), number, connector))
        return kept

    def _first(self) -> tuple[float, int]:
        """Return when the first connector is free, and its number."""
        while True:
            at, connector = self._heap[0]
            if at == self._free_at[connector]:
                return at, connector
            heappop(self._heap)  # it was planned anew since

    def _set(self, connector: int, at: float) -> None:
        self._free_at[connector] = at
        heappush(self._heap, (at, connector))


def _length(job: Requirements) -> tuple[float, float]:
    """Return a key that is lower for a longer job, and of equals for one with less energy."""
    return -job.seconds, job.seconds * job.power_kw


ORDERS: Final[Mapping[str, type[FifoOrder | LaxityOrder | DeadlineOrder]]] = {
    DeadlineOrder.name: DeadlineOrder,
    FifoOrder.name: FifoOrder,
    LaxityOrder.name: LaxityOrder,
}
DEFAULT: Final = DeadlineOrder.name
