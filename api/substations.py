"""The substations, as the dispatcher's last snapshot describes them, and why a job waits. Pure.

A snapshot is written when something has changed, else every ten seconds, and when a dispatcher
stops. If it is not current (``api.last_heard``), nothing is known of the substations any more, and
none counts as eligible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from math import inf
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.forecast import Place
from api.jobs.sessions import Sessions
from api.last_heard import DISPATCHER_TIMEOUT, SNAPSHOT_TIMEOUT, LastHeard
from grid.controls import Availability
from grid.events import Event
from grid.kinds import Snapshot
from grid.messages import DEFAULT_POWER_KW
from scheduling import reasons

SHOWN: Final = 3  # substations that a reason names
MAX_NEEDS: Final = 1_000  # different needs whose reason is kept, until the next snapshot


class Condition(StrEnum):
    """What a substation can do at the moment.

    Only those that are available, full or reserved are eligible: jobs are sent there when there is
    capacity.
    """

    AVAILABLE = "available"  # it has capacity
    FULL = "full"
    RESERVED = "reserved"  # for one large job
    DRAINING = "draining"  # by an operator
    INELIGIBLE = "ineligible"  # its page cannot be read, its queue has no consumer, …
    UNKNOWN = "unknown"  # the dispatcher is silent


ELIGIBLE: Final = frozenset({Condition.AVAILABLE, Condition.FULL, Condition.RESERVED})


class Substation(BaseModel):
    """A substation as the dispatcher sees it."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    id: str = Field(validation_alias="substation")
    status: Condition = Field(
        default=Condition.UNKNOWN,
        description="What it can do now: `unknown` if the dispatcher has stopped, was silent for "
        f"{DISPATCHER_TIMEOUT:g} s, or has not described it for {SNAPSHOT_TIMEOUT:g} s.",
    )
    load: float = Field(description="Sessions in progress, and jobs in flight.")
    connectors: float
    utilisation: float = Field(
        description="The larger of load ÷ connectors and power ÷ rated power."
    )
    gauge: float = Field(description="The sessions in progress that its page showed.")
    gauge_age_seconds: float | None = Field(description="How old that was at `as_of`.")
    outstanding: float = Field(description="Jobs dispatched there that no session shows yet.")
    power_kw: float | None = Field(
        default=None,
        description="The power of all consumers and of the sessions in flight, in kW.",
    )
    background_power_kw: float | None = Field(
        default=None, description="What other consumers draw of it."
    )
    rated_power_kw: float | None = None
    eligible: bool = Field(
        description="Whether jobs are sent there, now or once it has capacity: it is available, "
        "full or reserved."
    )
    reason: str | None = Field(description="Why no job can go there now; null if one can.")
    state: Availability = Field(
        default=Availability.AVAILABLE, description="As set by an operator."
    )
    limit: int | None = Field(
        default=None, description="The maximum number of sessions that an operator allows."
    )
    power_limit_kw: float | None = Field(
        default=None,
        description="What an operator allows it to draw now; null: what it is built for.",
    )
    power_limit_until: datetime | None = Field(
        default=None, description="When that changes; null: never."
    )
    power_limit_source: str | None = Field(default=None, description="Who asked for that limit.")
    power_limit: str | None = Field(default=None, description="That limit in words.")
    next_power_limit_kw: float | None = Field(
        default=None, description="The next lower limit that begins within a day; null: none does."
    )
    next_power_limit_from: datetime | None = Field(
        default=None, description="When that begins. No session is started that would cross it."
    )
    next_power_limit: str | None = Field(default=None, description="That limit in words.")
    promised: int = Field(
        default=0, description="Starts that are promised there and have not begun."
    )
    next_promised_start: datetime | None = Field(
        default=None, description="The first of them; null: there is none."
    )

    @property
    def most_kw(self) -> float | None:
        """Return what it may draw: its rated power, or a lower limit; None where unknown."""
        known = [kw for kw in (self.rated_power_kw, self.power_limit_kw) if kw is not None]
        return min(known, default=None)


class Need(NamedTuple):
    """What a request needs: the only substations that will do, if any are named, and its power."""

    allowed: tuple[str, ...]
    power_kw: float

    def allows(self, substation: str) -> bool:
        """Return whether a substation will do."""
        return not self.allowed or substation in self.allowed


def need_of(request: Mapping[str, Any]) -> Need:
    """Return what a request needs, by its fields in the event log; a wrong one is ignored."""
    named, power_kw = request.get("eligible_substations"), request.get("requested_power_kw")
    allowed = named if isinstance(named, list | tuple) else ()
    is_number = isinstance(power_kw, int | float) and not isinstance(power_kw, bool)
    return Need(
        tuple(each for each in allowed if isinstance(each, str)),
        (power_kw if is_number else None) or DEFAULT_POWER_KW,
    )


class Substations:
    """All substations by one snapshot; ``at`` is when it was written, in Unix seconds.

    Without a snapshot there are none, and it is as old as can be.
    """

    def __init__(self, event: Event | None = None, at: float = -inf) -> None:
        self.event = event
        self.at = at

    @cached_property
    def ids(self) -> frozenset[str]:
        """Return the ids of all substations."""
        rows = None if self.event is None else Snapshot(self.event.detail).rows
        return frozenset(each["substation"] for each in rows or ())

    @cached_property
    def _rows(self) -> tuple[Substation, ...]:
        """Return the rows as they were written; an invalid one is left out."""
        found = []
        for row in (Snapshot(self.event.detail).rows if self.event else None) or ():
            with suppress(ValidationError):
                one = Substation.model_validate({**row, "status": Condition.UNKNOWN})
                status = _condition(one)
                change = {"status": status, "eligible": status in ELIGIBLE}
                found.append(one.model_copy(update=change))
        return tuple(found)

    @cached_property
    def _ratings(self) -> dict[str, float]:
        """Return the rated power of each substation, in kW; infinite if it is not known."""
        known = {each.id: each.rated_power_kw for each in self._rows}
        return {each: inf if (kw := known.get(each)) is None else kw for each in self.ids}

    @cached_property
    def _largest_kw(self) -> float:
        return max(self._ratings.values(), default=inf)

    @cached_property
    def _reasons(self) -> dict[Need, tuple[str, bool]]:
        """Return why requests wait, by their needs, and whether that is for promised starts."""
        return {}

    @cached_property
    def _kept_for(self) -> int | None:
        return None if self.event is None else Snapshot(self.event.detail).kept_for

    def kept_for(self, request: Mapping[str, Any]) -> int | None:
        """Return the priority for which free connectors are kept that a request may not take.

        None if that is not why it waits.
        """
        priority = request.get("priority")
        level = priority if isinstance(priority, int) else 0
        if self._kept_for is None or level >= self._kept_for:
            return None
        need = need_of(request)
        is_free = any(
            _against(each, need.power_kw) is None for each in self._rows if need.allows(each.id)
        )
        return self._kept_for if is_free else None

    @cached_property
    def is_last(self) -> bool:
        """Return whether it is the last one of its dispatcher, which has stopped, in order."""
        return self.event is not None and Snapshot(self.event.detail).leaves

    def age(self, now: float) -> float | None:
        """Return how many seconds old the snapshot is; None if there is none."""
        return None if self.event is None else max(0.0, now - self.at)

    def silence(self, heard: LastHeard) -> str | None:
        """Return why nothing is known of the substations; None if it is."""
        return "no dispatcher has been heard yet" if self.event is None else heard.problem

    def rows(self, heard: LastHeard) -> Sequence[Substation]:
        """Return a row for each substation, as far as is known now."""
        if (silence := self.silence(heard)) is None:
            return self._rows
        change = {"status": Condition.UNKNOWN, "eligible": False, "reason": silence}
        return [each.model_copy(update=change) for each in self._rows]

    def reason_never(
        self, allowed: Sequence[str], power_kw: float, heard: LastHeard
    ) -> tuple[str, str] | None:
        """Return why no substation can ever take a request, in a word and in full, or None.

        Ratings may have changed while the dispatcher is silent, so then they count as unknown.
        While the event log is still being read, the substations do as well.
        """
        if heard.snapshot_seconds == inf:
            return None
        largest = inf
        if not heard.is_silent:
            known = [self._ratings[each] for each in allowed if each in self._ratings]
            largest = max(known, default=inf) if allowed else self._largest_kw
        return reasons.reason_never(allowed, power_kw, self.ids, largest)

    def places(self, need: Need, sessions: Sessions, heard: LastHeard) -> list[Place]:
        """Return what a job may go to, for a forecast."""
        return [
            _place(row, need.power_kw, sessions)
            for row in self.rows(heard)
            if row.eligible and need.allows(row.id)
        ]

    def opens_at(self, request: Mapping[str, Any], now: float) -> float:
        """Return from when a job may begin by the power limits that hold now, in Unix seconds.

        ``now`` where none is in its way, and infinite where one is that does not end.
        """
        need = need_of(request)
        allowed = [row for row in self._rows if need.allows(row.id)]
        return min((_opens_at(row, need.power_kw, now) for row in allowed), default=now)

    def reason_to_wait(self, request: Mapping[str, Any], heard: LastHeard) -> str:
        """Return why a request waits, as far as the snapshot shows; ``request`` has its fields."""
        if (silence := self.silence(heard)) is not None:
            return silence
        if (kept_for := self.kept_for(request)) is not None:
            return reasons.kept_for(kept_for)
        return self._reason(need_of(request))[0]

    def kept_for_promises(self, request: Mapping[str, Any]) -> bool:
        """Return whether a request waits since what is free is kept for promised starts."""
        return self._reason(need_of(request))[1]

    def _reason(self, need: Need) -> tuple[str, bool]:
        if (known := self._reasons.get(need)) is None:
            known = _reason_to_wait(self._rows, need)
            if len(self._reasons) < MAX_NEEDS:
                self._reasons[need] = known
        return known


def _opens_at(row: Substation, power_kw: float, now: float) -> float:
    limit_kw, until = row.power_limit_kw, row.power_limit_until
    if limit_kw is None or (row.background_power_kw or 0.0) + power_kw <= limit_kw:
        return now
    return inf if until is None else max(now, until.timestamp())


def _place(row: Substation, power_kw: float, sessions: Sessions) -> Place:
    """Return how many jobs of a power a substation may have, those it has included."""
    charging, in_flight = sessions.at(row.id), int(row.outstanding)
    most = row.connectors if row.limit is None else min(row.connectors, row.limit)
    if row.status is Condition.RESERVED:
        most = min(most, len(charging) + in_flight)
    elif row.most_kw is not None:
        left_kw = max(0.0, row.most_kw - (row.power_kw or 0.0))
        most = min(most, len(charging) + in_flight + left_kw // power_kw)
    return Place(int(most), in_flight, charging, sessions.seconds(row.id))


def _condition(row: Substation) -> Condition:
    if row.state is Availability.DRAINING:
        return Condition.DRAINING
    if row.reason is None:
        return Condition.AVAILABLE if row.eligible else Condition.INELIGIBLE
    if reasons.is_full(row.reason):
        return Condition.FULL
    return Condition.RESERVED if row.reason == reasons.RESERVED else Condition.INELIGIBLE


def _reason_to_wait(rows: Iterable[Substation], need: Need) -> tuple[str, bool]:
    """Return why a request waits, and whether that is for starts that are promised to others."""
    candidates = [each for each in rows if need.allows(each.id)]
    if not candidates:
        return (
            f"{reasons.NO_SUCH_SUBSTATION}: {reasons.some(need.allowed)}"
            if need.allowed
            else "there is no substation"
        ), False
    against = [(each, _against(each, need.power_kw)) for each in candidates]
    with_capacity = [each for each, reason in against if reason is None]
    if not with_capacity:
        return _reason_without_capacity(against, need), False
    free = [each.id for each in with_capacity if not each.promised]
    names = free or [each.id for each in with_capacity]
    some = ", ".join(names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    if not free:
        return f"what is free at {some}{more} is kept for starts that are promised", True
    verb = "has" if len(names) == 1 else "have"
    return f"{some}{more} {verb} capacity: it waits for its turn", False


def _reason_without_capacity(against: Sequence[tuple[Substation, str | None]], need: Need) -> str:
    candidates = [each for each, _ in against]
    if len(candidates) == 1:
        ((one, reason),) = against
        why = f": {one.reason}" if one.status is Condition.INELIGIBLE else ""
        return f"{one.id} is {reason}{why}"
    number = f"{len(candidates)} allowed" if need.allowed else str(len(candidates))
    counts = Counter(reason for _, reason in against)
    if len(counts) == 1:
        return f"all {number} substations are {next(iter(counts))}"
    parts = [f"{count} {'is' if count == 1 else 'are'} {each}" for each, count in counts.items()]
    return f"of {number} substations, {', '.join(parts)}"


def _against(row: Substation, power_kw: float) -> str | None:
    """Return why a job cannot go to a substation now, so that it reads well after "is"."""
    if row.status is Condition.DRAINING:
        return "drained"
    if row.status is Condition.RESERVED:
        return "reserved for another job"
    if row.status is Condition.INELIGIBLE:
        return "not eligible"
    if row.status is Condition.FULL and row.reason != reasons.NO_POWER:
        return "full" if row.reason == reasons.NO_CONNECTOR else row.reason
    used = (row.power_kw or 0.0) + power_kw
    if (row.most_kw is not None and used > row.most_kw) or row.reason:
        limited = row.power_limit if row.most_kw == row.power_limit_kw else None
        return limited or f"short of power for {power_kw:g} kW"
    is_coming = row.next_power_limit_kw is not None and used > row.next_power_limit_kw
    return row.next_power_limit if is_coming else None
