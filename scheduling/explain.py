"""What a decision saw, and why it went as it did: as the event log and the api show it. Pure.

All of it is read from the figures that decided (``scheduling.candidates``).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Final

from msgspec import Struct

from grid.controls import Availability
from scheduling import reasons
from scheduling.candidates import LISTED, Candidates, CandidateTable
from scheduling.figures import FULL, Figures
from scheduling.order import Requirements
from scheduling.policies import Pick
from scheduling.power_limits import Step

NO_CONNECTOR: Final = reasons.NO_CONNECTOR
NO_POWER: Final = reasons.NO_POWER
NOT_ALLOWED: Final = reasons.NOT_ALLOWED
RESERVED: Final = reasons.RESERVED
BOOKED: Final = reasons.BOOKED
BLIND: Final = "; by the load tracker alone, since no gauge is current"
PROMISED: Final = "; its start there was promised"
AHEAD: Final = "; sent ahead: it starts when a connector there becomes free"


class Candidate(Struct, frozen=True, gc=False):
    """A substation as a decision sees it.

    Args:
        substation: Its id.
        load: Sessions in progress and in flight, as far as is known or, where only scrapes tell,
            to be expected.
        connectors: How many vehicles it can charge at once.
        utilisation: The larger of load ÷ connectors and power ÷ rated power.
        gauge: The load that its page showed, ``gauge_age`` seconds ago.
        outstanding: Jobs dispatched there that no session shows yet.
        power_kw: What sessions, jobs in flight and other consumers draw.
        background_kw: What other consumers draw of it.
        rated_power_kw: What its transformer is built for; None where unknown.
        drained: An operator drains it.
        limit: Sessions at most, as set by an operator; None where none is set.
        power_limit: What it may draw now, as set by an operator; None where nothing is limited.
        power_limit_words: That in words.
        next_limit: The next lower one that begins within a day.
        next_limit_words: That in words.
        ejected: It is left out, since it failed again and again.
        reserved: It is reserved for one job.
        problem: Why nothing may be sent there; None where jobs may.
        reason: Why a job cannot go there now: the problem, or that it is full; None where it can.
        promised: How many starts are promised there, and have not begun.
        next_promised_start: The first of them, in Unix seconds; infinite without one.
    """

    substation: str
    load: float
    connectors: float
    utilisation: float
    gauge: float
    gauge_age: float | None
    outstanding: float
    power_kw: float
    background_kw: float
    rated_power_kw: float | None
    drained: bool
    limit: float | None
    power_limit: Step | None
    power_limit_words: str | None
    next_limit: Step | None
    next_limit_words: str | None
    ejected: bool
    reserved: bool
    problem: str | None
    reason: str | None
    promised: int = 0
    next_promised_start: float = inf


def candidates(
    table: CandidateTable, now: float, requirements: Requirements | None = None
) -> list[Candidate]:
    """Return all substations as a decision at ``now``, in the tracker's seconds, would see them."""
    table.refresh(now)
    return [
        _candidate(table, each, now, *_reasons(table, each, now, requirements))
        for each in range(len(table.names))
    ]


def shown(candidate: Candidate) -> dict[str, Any]:
    """Return what is seen of a substation, ready for JSON."""
    age, limit = candidate.gauge_age, candidate.power_limit
    row = {
        "substation": candidate.substation,
        "load": candidate.load,
        "connectors": candidate.connectors,
        "utilisation": round(candidate.utilisation, 4),
        "gauge": candidate.gauge,
        "gauge_age_seconds": None if age is None else round(age, 3),
        "outstanding": candidate.outstanding,
        "power_kw": round(candidate.power_kw, 3),
        "rated_power_kw": candidate.rated_power_kw,
        "state": Availability.DRAINING if candidate.drained else Availability.AVAILABLE,
        "limit": candidate.limit,
        "eligible": candidate.reason is None,
        "reason": candidate.reason,
    }
    if limit is not None:
        row["power_limit_kw"] = limit.kw
        row["power_limit_until"] = limit.end if limit.end < inf else None
        row["power_limit_source"] = limit.source
        row["power_limit"] = candidate.power_limit_words
    if candidate.next_limit is not None:
        row["next_power_limit_kw"] = candidate.next_limit.kw
        row["next_power_limit_from"] = candidate.next_limit.start
        row["next_power_limit"] = candidate.next_limit_words
    return row


class _Row(Struct, frozen=True, gc=False):
    """What was shown of a substation: as of which change of it, when, and for which job.

    While its ``revision`` is the same, nothing but its load and power has changed, unless a limit
    of its power has just come within a day.
    """

    version: int
    revision: int
    circumstances: tuple[object, ...]
    asked_at: float | None
    shown: dict[str, Any]


class Explainer:
    """Explains the decisions of a policy; it remembers what it showed of each substation.

    Between two decisions hardly any substation changes, and what was shown of the others holds for
    a job that needs the same at the same time. Otherwise all of it holds but the age of the gauge,
    and the reason. Explanations share what is shown: nobody may change it.
    """

    def __init__(self, table: CandidateTable, policy: str) -> None:
        self._table = table
        self._policy = policy
        self._rows: dict[int, _Row] = {}  # by the substation's number
        self._circumstances: tuple[object, ...] = ()

    def explanation(
        self, pick: Pick, found: Candidates, requirements: Requirements, now: float
    ) -> Mapping[str, Any]:
        """Return the explanation of a decision: the least utilised, the chosen one, the reason.

        It is to be made before the load tracker is told of the decision.
        """
        table, rows, allowed = self._table, self._rows, requirements.allowed
        numbers = table.least_utilised(LISTED, allowed, now)
        if pick.number not in numbers:
            numbers.append(pick.number)
        seconds = requirements.seconds if table.plans_ahead else None
        circumstances = now, requirements.power_kw, seconds, allowed, table.reserved, found.blind
        if circumstances != self._circumstances:
            self._circumstances = circumstances
        reason = pick.reason
        if found.blind:
            reason += BLIND
        if found.ahead:
            reason += AHEAD
        candidates = []
        for number in numbers:
            row = rows.get(number)
            if (
                row is None
                or row.version != table.versions[number]
                or row.circumstances is not self._circumstances
            ):
                row = rows[number] = self._row(number, row, found, requirements, now)
            candidates.append(row.shown)
        return {"policy": self._policy, "reason": reason, "candidates": candidates}

    def _row(
        self, number: int, last: _Row | None, found: Candidates, needs: Requirements, now: float
    ) -> _Row:
        table, version = self._table, self._table.versions[number]
        state = table.tracker.substations[table.names[number]]
        problem = reason = None
        if found.after[number] == inf or found.ahead or table.reserved is not None:
            problem, reason = _reasons(table, number, now, needs)
        if last is None or last.revision != state.revision:
            candidate = _candidate(table, number, now, problem, reason)
            age = candidate.gauge_age
            asked_at = None if age is None else now - age
            return _Row(version, state.revision, self._circumstances, asked_at, shown(candidate))
        asked_at, renewed = last.asked_at, last.shown.copy()
        if last.version != version:
            figures = table.figures_of(number)
            renewed["load"] = figures.load
            renewed["utilisation"] = round(_utilisation(figures, state.places), 4)
            renewed["outstanding"] = state.outstanding
            renewed["power_kw"] = round(figures.power_kw, 3)
        if last.circumstances is not self._circumstances:
            renewed["gauge_age_seconds"] = None if asked_at is None else round(now - asked_at, 3)
        renewed["eligible"], renewed["reason"] = reason is None, reason
        return _Row(version, state.revision, self._circumstances, asked_at, renewed)


def _candidate(
    table: CandidateTable, number: int, now: float, problem: str | None, reason: str | None
) -> Candidate:
    name = table.names[number]
    state, figures = table.tracker.substations[name], table.figures_of(number)
    clock = now + table.tracker.clock_offset
    limit, coming = _power_limit(table, name, now), None
    if state.power_limits is not None:
        coming = state.power_limits.next_lower(clock)
    return Candidate(
        name,
        figures.load,
        state.connectors,
        _utilisation(figures, state.places),
        figures.gauge,
        state.age(now),
        state.outstanding,
        figures.power_kw,
        state.background_kw,
        None if figures.rated == inf else figures.rated,
        state.drained,
        state.limit,
        limit,
        None if limit is None else limit.in_words(clock),
        coming,
        None if coming is None else coming.in_words(clock),
        state.health.ejected(now),
        name == table.reserved,
        problem,
        reason,
        *((0, inf) if table.bookings is None else table.bookings.promised_at(name)),
    )


def _utilisation(figures: Figures, places: float) -> float:
    """Return the larger of load ÷ places and the share of power that is drawn.

    One that may draw nothing is full; only a transformer built for nothing is beyond that.
    """
    share = 1.0 if figures.power == inf and figures.rated else figures.power
    return max(figures.load / places, share)


def _reasons(
    table: CandidateTable, number: int, now: float, requirements: Requirements | None
) -> tuple[str | None, str | None]:
    """Return why nothing may be sent to a substation, and why a job cannot; None where it may.

    Whether that is so, its figures say.
    """
    name, figures, share = table.names[number], table.figures_of(number), table.share(number, now)
    problem = None
    if share == inf:
        state = table.tracker.substations[name]
        problem = table.tracker.ineligible_reason(state, now) or "about to be eligible"
    allowed = () if requirements is None else requirements.allowed
    power_kw = 0.0 if requirements is None else requirements.power_kw
    reason = problem
    if allowed and name not in allowed:
        reason = NOT_ALLOWED
    elif problem is None:
        if name == table.reserved:
            reason = RESERVED
        elif share > figures.most:
            reason = NO_CONNECTOR
        else:
            if figures.power + power_kw * figures.per_kw > FULL:
                reason = NO_POWER
            crossed = _crossed_limit(table, number, requirements, now)
            if crossed is not None and crossed.kw < figures.rated:
                reason = crossed.in_words(now + table.tracker.clock_offset)
            if (
                reason is None
                and requirements is not None
                and table.is_booked(number, power_kw, requirements.seconds)
            ):
                reason = BOOKED
    return problem, reason


def _crossed_limit(
    table: CandidateTable, number: int, requirements: Requirements | None, now: float
) -> Step | None:
    """Return the limit that keeps a job out; without one, that which keeps out every job."""
    if requirements is not None:
        return table.crossed_limit(number, requirements.power_kw, requirements.seconds, now)
    step = _power_limit(table, table.names[number], now)
    return step if step is not None and table.figures_of(number).power > FULL else None


def _power_limit(table: CandidateTable, name: str, now: float) -> Step | None:
    limits = table.tracker.substations[name].power_limits
    if limits is None:
        return None
    step = limits.at(now + table.tracker.clock_offset)
    return step if step.kw < inf else None
