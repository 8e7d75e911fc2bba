"""The order in which waiting jobs get their turn. Pure: time is an argument, in Unix seconds.

``ORDER`` names one of them, or the import path of a class of one's own: with a ``name``, and a
method ``turns`` that returns a turn for each job that waits. The lowest is next. If the order
``varies``, the wait queue asks again as time passes, and whenever many jobs have come or gone
(``scheduling.wait_queue``), as long as one of those that wait has a departure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from heapq import heappop, heappush, heapreplace
from math import inf
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from grid.messages import MAX_PRIORITY, ChargeRequest

Rank: TypeAlias = tuple[float, float, float, str]
SortKey: TypeAlias = tuple[float | str, ...]

DUE_AFTER_SECONDS: Final = 1800.0
UNKNOWN_HOURS: Final = 1.0  # of a session whose request names no energy
MIN_HOURS: Final = 0.1  # a connector is taken for some minutes, however little is charged


class Requirements(Struct, frozen=True, gc=False):
    """What a job needs of a substation, and what its turn follows from.

    Args:
        rank: Its negative priority, its latest start, since when it waits, and its id.
        allowed: The only substations that will do; empty where any will.
        power_kw: What it draws.
        departs_at: When its vehicle leaves, in Unix seconds; infinite where nobody said.
        seconds: How long it takes to charge; 0 where nobody said how much energy it needs.
        waits_until: When it has waited for as long as its client wants; infinite where nobody said.
        earliest_start: It does not begin before that; −infinity where nobody said.
        reserve: A start is to be promised to it, or refused: it has no turn among the others.
        tenant: Whose it is; empty where nobody said.
        hours: How long its session is expected to take a connector, for its tenant's share.
        tag: When its turn is by its tenant's share, among the jobs of its priority that have a
            departure, or of those that have none (``scheduling.fairness``).
    """

    rank: Rank
    allowed: tuple[str, ...]
    power_kw: float
    departs_at: float
    seconds: float = 0.0
    waits_until: float = inf
    tenant: str = ""
    hours: float = UNKNOWN_HOURS
    tag: float = 0.0
    earliest_start: float = -inf
    reserve: bool = False

    @property
    def latest_start(self) -> float:
        """Return when it must begin to be done by the departure; infinite without one."""
        return self.departs_at - self.seconds

    @property
    def expires_at(self) -> float:
        """Return when it ends if it still waits, in Unix seconds."""
        return min(self.departs_at, self.waits_until)


def requirements(request: ChargeRequest, speed: float = 1.0) -> Requirements:
    """Return what a request needs, where so many seconds of charging pass in one."""
    departs = inf if request.departure_time is None else float(request.departure_time)
    power_kw = request.power_kw
    hours = (request.requested_energy_kwh or 0.0) / power_kw
    seconds = 3600.0 * hours / speed
    rank = (float(-request.priority), departs - seconds, request.waits_from, request.id)
    until = inf if request.waits_until is None else request.waits_until
    return Requirements(
        rank,
        request.eligible_substations,
        power_kw,
        departs,
        seconds,
        until,
        request.tenant or "",
        max(MIN_HOURS, hours) if hours else UNKNOWN_HOURS,
        earliest_start=-inf if request.earliest_start is None else request.earliest_start,
        reserve=request.reserve,
    )


class Order(Protocol):
    """A way to order the jobs that wait.

    One that does not go by departures has ``by_departure = False``.
    """

    @property
    def name(self) -> str:
        """Return what the documentation and logs call it."""

    @property
    def varies(self) -> bool:
        """Return whether a job's turn changes with time, or with the other jobs."""

    def turns(
        self, jobs: Sequence[Requirements], free_at: Sequence[float], now: float
    ) -> Sequence[SortKey]:
        """Return the turn of each job, in the order of ``jobs``; the lowest is next.

        ``free_at`` is when the first connectors are expected to be free, ascending: as many as
        there are jobs, or all. It is empty if no substation can be sent anything.

        If it raises over a job that comes, the dispatcher rejects the request, and ends, to be
        started again; over jobs that wait, these keep their turns.
        """


class FifoOrder:
    """The highest priority first; within a priority and a tenant, first come, first served."""

    name: Final = "fifo"
    varies: Final = False
    by_departure: Final = False

    def turns(
        self,
        jobs: Sequence[Requirements],
        free_at: Sequence[float],  # noqa: ARG002  # it does not matter here
        now: float,  # noqa: ARG002
    ) -> Sequence[SortKey]:
        """Return the priority, the tag and the time of each request."""
        return [(each.rank[0], each.tag, *each.rank[2:]) for each in jobs]


class LaxityOrder:
    """The highest priority first; within a priority, the one that must begin soonest."""

    name: Final = "laxity"
    varies: Final = False

    def turns(
        self,
        jobs: Sequence[Requirements],
        free_at: Sequence[float],  # noqa: ARG002  # it does not matter here
        now: float,  # noqa: ARG002
    ) -> Sequence[SortKey]:
        """Return the rank of each job, and its tag before its age."""
        return [(*each.rank[:2], each.tag, *each.rank[2:]) for each in jobs]


# The groups of jobs within a priority, in their order:
KEPT: Final = 0  # all of these can be done by their departures
POSSIBLE: Final = 1  # could be done by their departures if they displaced others
UNBOUND: Final = 2  # have no departure
LATE: Final = 3  # cannot be done by their departures any more

_SEVERAL: Final = 2  # tenants


_Unbound: TypeAlias = tuple[float, float, str, int]  # tag, since when it waits, id, and number


class DeadlineOrder:
    """The most jobs that can be done by their departures, within each priority.

    Those are found by Moore and Hodgson's algorithm: the jobs take the connectors in the order of
    their departures, and whenever one would be late, the longest is left out (of equally long ones,
    that with the least energy). Those that are kept come by their latest start; then those left
    out, the shortest first; then those without a departure, by tag and age; then those that are
    late in any case. Where there is not time for all, only jobs within their tenants' shares, those
    of the lowest tags, are planned; the others are left out. So that none without a departure waits
    for ever, one that has waited for ``due_after`` seconds is due, and comes first; that may differ
    by priority. A job is not due before another of a lower tag: a tenant that floods waits for as
    long by itself.

    Sources: J. M. Moore, "An n job, one machine sequencing algorithm for minimizing the number of
    late jobs", Management Science 15 (1968); for several machines it is a heuristic.
    """

    name: Final = "deadline"
    varies: Final = True

    def __init__(self, due_after: Mapping[int, float] = MappingProxyType({})) -> None:
        self._due_after = [
            due_after.get(priority, DUE_AFTER_SECONDS) for priority in range(MAX_PRIORITY + 1)
        ]

    def turns(
        self, jobs: Sequence[Requirements], free_at: Sequence[float], now: float
    ) -> Sequence[SortKey]:
        """Return the priority, the group, and the turn within that, of each job."""
        if len(jobs) == 1:
            return [self._turn_alone(jobs[0], free_at, now)]
        return self._turns(jobs, free_at, now)

    def _turn_alone(self, needs: Requirements, free_at: Sequence[float], now: float) -> SortKey:
        """Return the turn of a job that shares the connectors with nobody; as ``_turns`` does.

        Each job that comes is asked for: nothing needs to be planned for it.
        """
        latest_start, seconds = needs.departs_at - needs.seconds, needs.seconds
        if latest_start == inf:
            negative, _, waits_since, _ = needs.rank
            due_at = waits_since + self._after(negative)
            if due_at <= now:
                return _turn(needs, KEPT, due_at, needs.tag)
            return _turn(needs, UNBOUND, needs.tag)
        if latest_start < now:
            return _turn(needs, LATE, latest_start)
        if free_at and max(now, free_at[0]) + seconds > needs.departs_at:
            return _turn(needs, POSSIBLE, seconds)
        return _turn(needs, KEPT, latest_start, 0.0)

    def _after(self, negative: float) -> float:
        """Return after how many seconds a job without a departure is due."""
        return self._due_after[min(MAX_PRIORITY, max(0, int(-negative)))]

    def _turns(
        self, jobs: Sequence[Requirements], free_at: Sequence[float], now: float
    ) -> Sequence[SortKey]:
        connectors = _Connectors(free_at[: len(jobs)], now)  # no job needs a later one
        found: list[SortKey] = [()] * len(jobs)
        for negative, members in _by_priority(jobs):
            due_after = self._after(negative)
            planned: list[int] = []
            unbound: list[_Unbound] = []
            oldest = inf
            for number in members:
                needs = jobs[number]
                tag, latest_start = needs.tag, needs.departs_at - needs.seconds
                if latest_start < inf:
                    if latest_start >= now:
                        planned.append(number)
                    else:
                        found[number] = _turn(needs, LATE, latest_start)
                else:
                    _, _, waits_since, job = needs.rank
                    oldest = min(oldest, waits_since)
                    unbound.append((tag, waits_since, job, number))
                    found[number] = _turn(needs, UNBOUND, tag)
            if oldest + due_after <= now:
                for due_at, (tag, _, _, number) in _due(unbound, due_after, now):
                    connectors.take(jobs[number].seconds)
                    found[number] = _turn(jobs[number], KEPT, due_at, tag)
            kept = connectors.plan(_within_shares(planned, jobs, connectors), jobs)
            for number in planned:
                needs = jobs[number]
                if number in kept:
                    found[number] = _turn(needs, KEPT, needs.latest_start, 0.0)
                else:
                    found[number] = _turn(needs, POSSIBLE, needs.seconds)
        return found


def _turn(needs: Requirements, group: int, *keys: float) -> SortKey:
    """Return the turn of a job in a group: by these keys, then by age and id."""
    negative, _, waits_since, job = needs.rank
    return (negative, group, *keys, waits_since, job)


def _due(unbound: list[_Unbound], after: float, now: float) -> Iterator[tuple[float, _Unbound]]:
    """Yield the jobs that waited for so many seconds, and when each is due, in their order.

    That is of their tags: a tenant that floods waits for so long by itself.
    """
    due_at = -inf
    for each in sorted(unbound):
        if each[1] + after > now:
            return
        due_at = max(due_at, each[1] + after)
        yield due_at, each


def _by_priority(jobs: Sequence[Requirements]) -> list[tuple[float, list[int]]]:
    """Return the numbers of the jobs of each priority, by its negative; the highest first."""
    found: defaultdict[float, list[int]] = defaultdict(list)
    for number, job in enumerate(jobs):
        found[job.rank[0]].append(number)
    return sorted(found.items())


def _within_shares(
    numbers: Sequence[int], jobs: Sequence[Requirements], connectors: _Connectors
) -> Sequence[int]:
    """Return the jobs for which there is time, those of the lowest tags.

    All of them if one tenant has them, or there is time for all.
    """
    if len({jobs[number].tenant for number in numbers}) < _SEVERAL:
        return numbers
    seconds = connectors.seconds_until(numbers, jobs)
    if sum(jobs[number].seconds for number in numbers) <= seconds:
        return numbers
    found = []
    for number in sorted(numbers, key=lambda each: jobs[each].tag):
        seconds -= jobs[number].seconds
        if seconds < 0:
            break
        found.append(number)
    return found


class _Connectors:
    """When each connector is free, with what is planned on it; found when it is asked for."""

    def __init__(self, free_at: Sequence[float], now: float) -> None:
        self._given, self._now = free_at, now

    @cached_property
    def _free_at(self) -> list[float]:
        return [max(self._now, at) for at in self._given]

    @cached_property
    def _heap(self) -> list[tuple[float, int]]:
        return [(at, number) for number, at in enumerate(self._free_at)]  # ascending: it is a heap

    def seconds_until(self, numbers: Sequence[int], jobs: Sequence[Requirements]) -> float:
        """Return how long all connectors are free together until these jobs depart, on average."""
        if not numbers:
            return 0.0
        departs_at = sum(jobs[number].departs_at for number in numbers) / len(numbers)
        return sum(max(0.0, departs_at - at) for at in self._free_at)

    def take(self, seconds: float) -> None:
        """Plan a session on the connector that is free first, whenever it ends."""
        if self._heap:
            at, connector = self._first()
            self._free_at[connector] = at + seconds
            heapreplace(self._heap, (at + seconds, connector))

    def plan(self, numbers: Sequence[int], jobs: Sequence[Requirements]) -> set[int]:
        """Plan the most of these jobs that can be done by their departures; return which."""
        if not (numbers and self._heap):
            return set(numbers)
        kept: set[int] = set()
        longest: list[tuple[float, float, int, int]] = []  # a heap of those kept
        for number in sorted(numbers, key=lambda each: jobs[each].departs_at):
            needs = jobs[number]
            power_kw, departs_at, seconds = needs.power_kw, needs.departs_at, needs.seconds
            at, connector = self._first()
            if at + seconds > departs_at:
                if not longest or longest[0][:2] >= (-seconds, seconds * power_kw):
                    continue
                # the jobs behind it on its connector begin so much earlier
                longer, _, left_out, its_connector = heappop(longest)
                kept.remove(left_out)
                self._free_at[its_connector] += longer
                heappush(self._heap, (self._free_at[its_connector], its_connector))
                at, connector = self._first()
                if at + seconds > departs_at:
                    continue
            self._free_at[connector] = at + seconds
            heapreplace(self._heap, (at + seconds, connector))
            kept.add(number)
            # the longest first; of equals, the one with the least energy
            heappush(longest, (-seconds, seconds * power_kw, number, connector))
        return kept

    def _first(self) -> tuple[float, int]:
        """Return the first connector to be free, the top of the heap."""
        heap, free_at = self._heap, self._free_at
        while heap[0][0] != free_at[heap[0][1]]:
            heappop(heap)  # it was planned anew since
        return heap[0]


ORDERS: Final[Mapping[str, type[FifoOrder | LaxityOrder | DeadlineOrder]]] = {
    DeadlineOrder.name: DeadlineOrder,
    FifoOrder.name: FifoOrder,
    LaxityOrder.name: LaxityOrder,
}
DEFAULT: Final = DeadlineOrder.name
