"""The jobs that wait for a substation with capacity, in the order of their turn. Pure.

A turn may depend on the time, on the other jobs, and on when connectors become free. So the turns
are asked for again (``scheduling.order``): after a while, and when a share of the jobs has come or
gone. Until then, a new job has the turn that it would have alone.

While all jobs are of one tenant, nothing is shared, and no job has a tag.

A job that may not begin yet has no turn, nor has one whose start is promised: they are held apart.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, count
from math import inf
from types import MappingProxyType
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from scheduling.fairness import BURST_HOURS, FairShares
from scheduling.order import LaxityOrder, Order, Requirements, SortKey

ARRANGED_SECONDS: Final = 1.0  # of charging: for so long the turns hold
# Of the jobs and connectors, so many may come or go before the turns are asked for again: among a
# thousand that takes longer than a decision.
CHANGED_SHARE: Final = 1 / 8


class Waiting(Protocol):
    """A job that waits."""

    @property
    def requirements(self) -> Requirements:
        """Return what it needs."""


W = TypeVar("W", bound=Waiting)


class _Entry(Struct, Generic[W], frozen=True, order=True, gc=False):
    """A job in the queue; by its ``number``, the first of equal turns stays first.

    ``needs`` are its requirements, with its tag.
    """

    turn: SortKey
    number: int
    job: W
    needs: Requirements


class WaitQueue(Generic[W]):
    """Jobs in the order of their turn; of equal turns the first stays first.

    ``weights`` are the shares of the tenants, where they are not 1. ``charge_speed`` is how many
    seconds of charging pass in one: the turns are asked for so much more often.
    """

    def __init__(
        self,
        order: Order | None = None,
        weights: Mapping[str, float] = MappingProxyType({}),
        charge_speed: float = 1.0,
    ) -> None:
        self._arranged_seconds = ARRANGED_SECONDS / charge_speed
        self._order: Order = order or LaxityOrder()
        self._all_share = not getattr(self._order, "by_departure", True)
        self._shares = FairShares(weights)
        self._departing_shares = FairShares(weights)  # of jobs that go by their departures
        self._tenant: str | None = None  # whose all jobs are; None while tenants share
        self._entries: list[_Entry[W]] = []
        self._numbers = count()
        self._later: list[W] = []  # those that have no turn yet
        self._opens_at = inf  # when the first of these may begin
        self._admitted_at = -inf
        self._departing = 0  # how many have a departure
        self._next_expiry = inf  # or earlier: a job that was removed may have been that one
        self._free_at: Sequence[float] = ()
        self._arranged_at = -inf
        self._changes = 0  # jobs that came or went since

    def __len__(self) -> int:
        """Return how many jobs have a turn."""
        return len(self._entries)

    def __iter__(self) -> Iterator[W]:
        """Return the jobs that have a turn, in their order."""
        return (each.job for each in self._entries)

    @property
    def later(self) -> Sequence[W]:
        """Return the jobs that may not begin yet, and those that are to be promised a start."""
        return self._later

    @property
    def held(self) -> int:
        """Return how many jobs there are, with a turn or without."""
        return len(self._entries) + len(self._later)

    @property
    def is_shared(self) -> bool:
        """Return whether jobs of several tenants waited since it was empty."""
        return self._tenant is None and bool(self._entries)

    def add(self, job: W) -> None:
        """Add a job: at the place of its turn, or to those that have none yet."""
        needs = job.requirements
        if needs.departs_at < self._next_expiry or needs.waits_until < self._next_expiry:
            self._next_expiry = needs.expires_at
        if needs.reserve or needs.earliest_start > self._admitted_at:
            self._later.append(job)
            if not needs.reserve:
                self._opens_at = min(self._opens_at, needs.earliest_start)
            return
        if needs.departs_at < inf:
            self._departing += 1
        self._changes += 1
        if not self._entries:
            if self._tenant is None:
                self._shares.clear()
                self._departing_shares.clear()
            self._tenant = needs.tenant
        elif self._tenant is not None and needs.tenant != self._tenant:
            self._begin_sharing()
        if self._tenant is None:
            needs = self._tagged(needs)
        (turn,) = self._order.turns((needs,), self._free_at, self._arranged_at)
        entry = _Entry(turn, next(self._numbers), job, needs)
        if not self._entries or self._entries[-1].turn <= turn:
            self._entries.append(entry)
        else:
            insort(self._entries, entry)

    def admit(self, now: float) -> None:
        """Let the jobs have a turn that may begin by now, in Unix seconds."""
        self._admitted_at = now
        if now >= self._opens_at:
            waiting, self._later, self._opens_at = self._later, [], inf
            for job in waiting:
                self.add(job)

    def is_due(self, now: float) -> bool:
        """Return whether the jobs are to be arranged anew; ``now`` is in Unix seconds."""
        if not (self._departing and self._order.varies):
            return False  # they are in their order in any case
        allowed = CHANGED_SHARE * (len(self._entries) + len(self._free_at))
        return self._changes >= allowed or not 0 <= now - self._arranged_at < self._arranged_seconds

    def supposes_none_free(self, now: float) -> bool:
        """Return whether the turns go by a plan in which no connector is free for a while yet.

        ``now`` is in Unix seconds.
        """
        if not (self._departing and self._order.varies):
            return False
        return not self._free_at or self._free_at[0] - now > self._arranged_seconds

    def arrange(self, free_at: Sequence[float], now: float) -> None:
        """Arrange all jobs anew, by when the first connectors are expected to be free."""
        self._free_at, self._arranged_at, self._changes = free_at, now, 0
        if self._tenant is None:
            self._pass_time(now)
        self._arrange([each.needs for each in self._entries])

    def _pass_time(self, now: float) -> None:
        """Advance the virtual time of the jobs with departures: they do not go by their tags."""
        lowest: dict[float, float] = {}
        for each in self._entries:
            needs = each.needs
            if needs.departs_at < inf and needs.latest_start >= now:
                level = needs.rank[0]
                lowest[level] = min(lowest.get(level, inf), needs.tag)
        for level, tag in lowest.items():
            self._departing_shares.begin(level, tag)

    def _arrange(self, needs: Sequence[Requirements]) -> None:
        turns = self._order.turns(needs, self._free_at, self._arranged_at)
        self._entries = sorted(
            _Entry(turn, each.number, each.job, need)
            for turn, need, each in zip(turns, needs, self._entries, strict=True)
        )

    def _begin_sharing(self) -> None:
        """Tag the jobs that wait: one of a second tenant comes.

        The first has had all connectors, so it has nothing saved up.
        """
        self._tenant = None
        self._arrange([self._tagged(each.needs, saved=0.0) for each in self._entries])

    def _tagged(self, needs: Requirements, saved: float = BURST_HOURS) -> Requirements:
        return replace(needs, tag=self._shares_of(needs).enter(needs, saved))

    def _shares_of(self, needs: Requirements) -> FairShares:
        is_bound = needs.departs_at < inf and not self._all_share
        return self._departing_shares if is_bound else self._shares

    def remove_first(self, count: int, but: Sequence[W]) -> None:
        """Remove so many jobs from the front, but some of these, which keep their order."""
        if but:
            kept = {id(job) for job in but}
            assigned = self._keep(lambda job: id(job) in kept, count)
        else:
            assigned = self._entries[:count]
            del self._entries[:count]
            self._count_removed(assigned)
        if self._tenant is None:
            for each in assigned:
                if self._shares_of(each.needs) is self._shares:
                    self._shares.serve(each.needs)

    def pop_expired(self, now: float) -> list[W]:
        """Remove and return the jobs that may wait no longer; ``now`` is in Unix seconds."""
        if now < self._next_expiry:
            return []
        expired = self.pop_where(lambda job: job.requirements.expires_at <= now)
        waiting = chain(self, self._later)
        self._next_expiry = min((job.requirements.expires_at for job in waiting), default=inf)
        return expired

    def pop_last(self, count: int) -> list[W]:
        """Remove and return so many jobs: those that may begin last, then those of the last turns.

        One that is to be promised a start counts by the earliest that will do.
        """
        self._later.sort(key=lambda job: job.requirements.earliest_start)
        kept = max(0, len(self._later) - count)
        self._later, later = self._later[:kept], self._later[kept:]
        first = max(0, len(self._entries) - (count - len(later)))
        last = self._entries[first:]
        del self._entries[first:]
        self._count_removed(last)
        return [*self._withdraw(last), *later]

    def remove(self, job: W) -> None:
        """Remove a job, if it is there."""
        self.pop_where(lambda each: each is job)

    def pop_where(self, wanted: Callable[[W], bool]) -> list[W]:
        """Remove and return all jobs that are wanted."""
        found = self._withdraw(self._keep(lambda job: not wanted(job), len(self._entries)))
        if self._later:
            found += [job for job in self._later if wanted(job)]
            self._later = [job for job in self._later if not wanted(job)]
        return found

    def _withdraw(self, entries: Sequence[_Entry[W]]) -> list[W]:
        """Return the jobs of entries that were removed, none of which is assigned."""
        if self._tenant is None:
            for each in entries:
                self._shares_of(each.needs).withdraw(each.needs)
        return [each.job for each in entries]

    def _keep(self, wanted: Callable[[W], bool], count: int) -> list[_Entry[W]]:
        """Keep only those of the first jobs that are wanted; return the others."""
        removed: list[_Entry[W]] = []
        kept: list[_Entry[W]] = []
        for each in self._entries[:count]:
            (kept if wanted(each.job) else removed).append(each)
        if removed:
            self._entries[:count] = kept
            self._count_removed(removed)
        return removed

    def _count_removed(self, entries: Sequence[_Entry[W]]) -> None:
        self._changes += len(entries)
        self._departing -= sum(each.needs.departs_at < inf for each in entries)
