"""The shares of the tenants: whose job is next, among those of one priority. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, 1996). Each job has a tag: when it would start if
its tenant had its share of the connectors for itself, in hours of sessions. The lowest is next. The
virtual time is the tag of the latest job that was assigned. A tenant that asks for more than its
share has tags far ahead of that; the jobs of others come first.

With tags from the virtual time on, two jobs at once of a tenant below its share would wait for the
next jobs of all others: they waited twice as long as without the tenant that floods. So a tenant
that took less than its share has ``BURST_HOURS`` saved up, and nothing beyond.

A tag stays once it is given. Among one tenant's jobs the order is that of their requests.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, TypeAlias

from scheduling.order import Requirements

Place: TypeAlias = tuple[float, str]

BURST_HOURS: Final = 24.0  # of one connector: so far may a tag be behind the virtual time
KEPT: Final = 50  # jobs of a tenant that are remembered at least, though assigned
FEW: Final = 16  # tenants that are never looked through for those that owe nothing


class FairShares:
    """The tags of jobs, for each priority apart; ``weights`` are the tenants' shares, else 1."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._levels: dict[float, _Level] = {}

    def clear(self) -> None:
        """Forget what tenants were given: nobody waits, so nobody lacks anything."""
        self._levels.clear()

    def enter(self, job: Requirements, saved: float = BURST_HOURS) -> float:
        """Return the tag of a job that waits; one that waits again has the tag it had.

        ``saved`` is what its tenant has saved up at most, in hours.
        """
        level = self._levels.get(job.rank[0])
        if level is None:
            level = self._levels[job.rank[0]] = _Level()
        return level.enter(job, self._time_of(job), saved)

    def serve(self, job: Requirements) -> None:
        """Advance the virtual time to the tag of a job that is assigned."""
        if (level := self._levels.get(job.rank[0])) is not None:
            level.time = max(level.time, job.tag)

    def begin(self, level: float, tag: float) -> None:
        """Advance the virtual time to the lowest tag of the jobs that wait."""
        if (known := self._levels.get(level)) is not None:
            known.time = max(known.time, tag)

    def withdraw(self, job: Requirements) -> None:
        """Return a job's share to its tenant: it waits no longer, and was not assigned."""
        if (level := self._levels.get(job.rank[0])) is not None:
            level.withdraw(job, self._time_of(job))

    def _time_of(self, job: Requirements) -> float:
        return job.hours / self._weights.get(job.tenant, 1.0)


class _Level:
    """The tenants with jobs of one priority."""

    def __init__(self) -> None:
        self.time = 0.0  # the virtual time
        self.tenants: dict[str, _Tenant] = {}
        self._sweep_at = FEW

    def enter(self, job: Requirements, took: float, saved: float) -> float:
        start = self.time - saved
        tenant = self.tenants.get(job.tenant)
        if tenant is None:
            self._sweep(self.time - BURST_HOURS)
            tenant = self.tenants[job.tenant] = _Tenant(start)
        return tenant.enter(job.rank[2:], start, took)

    def withdraw(self, job: Requirements, took: float) -> None:
        if (tenant := self.tenants.get(job.tenant)) is not None:
            tenant.withdraw(job.rank[2:], took)

    def _sweep(self, start: float) -> None:
        """Forget the tenants that owe nothing: they would begin anew in the same way."""
        if len(self.tenants) >= self._sweep_at:
            self.tenants = {n: each for n, each in self.tenants.items() if each.owes(start)}
            self._sweep_at = FEW + 2 * len(self.tenants)


class _Tenant:
    """One tenant's jobs: their tags, in the order of their requests."""

    __slots__ = ("_next", "_places", "_tags")

    def __init__(self, start: float) -> None:
        self._next = start  # the tag of the next job
        self._places: list[Place] = []
        self._tags: list[float] = []

    def enter(self, place: Place, start: float, took: float) -> float:
        places, tags = self._places, self._tags
        index = len(places)
        if places and place <= places[-1]:
            index = bisect_left(places, place)
            if places[index] == place:
                return tags[index]  # it waits again
        next_tag = max(start, self._next)
        tag = next_tag
        if index < len(places):
            tag = tags[index]  # it comes before that one, and is charged for as any other
        elif tags:
            tag = max(tag, tags[-1])  # the last one stays before it, also if others were withdrawn
        places.insert(index, place)
        tags.insert(index, tag)
        self._next = next_tag + took
        if len(tags) >= 2 * KEPT and tags[KEPT] < start:
            del places[:KEPT], tags[:KEPT]
        return tag

    def withdraw(self, place: Place, took: float) -> None:
        index = bisect_left(self._places, place)
        if index < len(self._places) and self._places[index] == place:
            del self._places[index], self._tags[index]
            self._next -= took

    def owes(self, start: float) -> bool:
        return self._next > start or (bool(self._tags) and self._tags[-1] > start)
