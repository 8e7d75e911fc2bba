"""The expected results, by plain arithmetic on one substation at a time."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, inf

from grid.messages import DEFAULT_POWER_KW
from scheduling.candidates import CandidateTable
from scheduling.load_tracker import LoadTracker
from scheduling.power_limits import usual_seconds
from scheduling.readings import BACKGROUND_POWER, CONNECTORS, LOAD, POWER, RATED_POWER
from scheduling.substation_state import SubstationState
from tests.scheduling.tables import PERIOD

NEARLY = 1e-8  # of a share: a smaller difference is none


def load(state: SubstationState) -> float:
    """Return the sessions in progress and in flight."""
    if state.counts is None:
        sent = max(state.ready, len(state.sent_at))
        return (state.gauge(LOAD) or 0) + sent
    counts = state.counts
    return counts.load + max(0, state.dispatched - counts.accepted - counts.dropped)


def events_stale(state: SubstationState, now: float) -> bool:
    """Return whether its load is known from pages only."""
    return state.counts is None or (state.events_due is not None and now - state.events_due[1] > 1)


def expected(state: SubstationState, now: float) -> float:
    """Return the load that a decision uses: if only pages are known, it falls as time passes."""
    if not events_stale(state, now):
        return load(state)
    left, since = state.expected
    seconds = now - since
    if not state.session_seconds or seconds <= 0:
        return left
    leaving = places(state) / state.session_seconds  # a second, while all capacity is used
    while left > places(state) and seconds > 0:
        step = min(seconds, (left - places(state)) / leaving)
        left, seconds = left - step * leaving, seconds - step
        if step < 1e-12:
            break
    return left * exp(-seconds / state.session_seconds)


def places(state: SubstationState) -> float:
    """Return the sessions it may have at once."""
    connectors = state.gauge(CONNECTORS) or state.in_file
    return min(connectors, state.limit or inf)


def power(state: SubstationState) -> float:
    """Return the power drawn there and in flight, in kW."""
    sessions = state.counts.load if state.counts else state.gauge(LOAD) or 0
    charging = state.counts.power_kw if state.counts else None
    if charging is None:
        charging = state.gauge(POWER)
    if charging is None:
        charging = DEFAULT_POWER_KW * sessions
    in_flight_kw = sum(state.in_flight_kw) + DEFAULT_POWER_KW * max(
        0, load(state) - sessions - len(state.in_flight_kw)
    )
    return (state.gauge(BACKGROUND_POWER) or 0) + charging + in_flight_kw


def most_kw(state: SubstationState, now: float) -> float | None:
    """Return what it may draw now; None where nothing limits it."""
    limits = [] if state.power_limits is None else [state.power_limits.at(now).kw]
    found = [each for each in (state.gauge(RATED_POWER), *limits) if each not in (None, inf)]
    return min(found, default=None)


def share(state: SubstationState, requested: float, now: float) -> float:
    """Return the utilisation with a request of so much power placed there."""
    by_places = (expected(state, now) + 1) / places(state)
    rated = most_kw(state, now)
    if rated is None:
        return by_places
    return max(by_places, (power(state) + requested) / rated if rated else inf)


def has_room(state: SubstationState, requested: float, now: float, slow_start: float) -> bool:
    """Return whether it has capacity for a request of so much power, without dispatch ahead."""
    most = places(state)
    room = state.health.slow_start_limit(most, now, slow_start)
    if events_stale(state, now) and most == (state.gauge(CONNECTORS) or state.in_file):
        session = state.session_seconds
        waiting = ceil(most * 3 * PERIOD / session) if session else most
        room += waiting * room / most
    rated = most_kw(state, now)
    fits = rated is None or (rated > 0 and (power(state) + requested) / rated <= 1 + NEARLY)
    return expected(state, now) + 1 <= room and fits


def keeps_limits(state: SubstationState, requested: float, now: float) -> bool:
    """Return whether a session of usual length would cross no power limit until its end."""
    if state.power_limits is None:
        return True
    end, drawn = now + usual_seconds(state.session_seconds), power(state) + requested
    steps = (each for each in state.power_limits.steps if each.start < end and each.end > now)
    return all(drawn <= each.kw * (1 + NEARLY) for each in steps)


def usable(
    tracker: LoadTracker, allowed: Sequence[str], now: float
) -> tuple[list[SubstationState], bool]:
    """Return those that may be used at all, and whether that is without any current page."""
    substations = [
        each for each in tracker.substations.values() if not allowed or each.substation in allowed
    ]
    everybody = tracker.substations.values()
    if any(tracker.unreadable_reason(each, now) is None for each in everybody):
        return [each for each in substations if tracker.ineligible_reason(each, now) is None], False
    found = [
        each for each in substations if each.consumers and tracker.blocked_reason(each, now) is None
    ]
    return found, True


def open_names(
    table: CandidateTable, requested: float, allowed: Sequence[str], now: float, slow_start: float
) -> set[str]:
    """Name all that a request may be sent to."""
    substations, _ = usable(table.tracker, allowed, now)
    return {each.substation for each in substations if has_room(each, requested, now, slow_start)}
