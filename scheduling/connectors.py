"""When connectors are expected to be free, by the sessions that use them now. Pure.

Where a substation has said when a session ends, it is believed; any other session is taken to last
as long as sessions there do on average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import nsmallest
from typing import Final

from grid.messages import DEFAULT_POWER_KW
from scheduling.load_tracker import LoadTracker
from scheduling.power_limits import usual_seconds
from scheduling.substation_state import SubstationState

OVERDUE_SHARE: Final = 0.1  # of the mean: so long a session lasts still that should have ended


def free_at(
    tracker: LoadTracker,
    ends: Mapping[str, Sequence[float]],
    count: int,
    *,
    now: float,
    clock: float,
) -> list[float]:
    """Return when the first connectors are expected to be free, ascending, in Unix seconds.

    Args:
        tracker: The substations; those that may be sent nothing have no connector.
        ends: When the sessions of each substation end, of those of which it is known.
        count: How many are wanted at most.
        now: In the tracker's seconds.
        clock: The same instant in Unix seconds.
    """
    found: list[float] = []
    for name, state in tracker.substations.items():
        if tracker.ineligible_reason(state, now) is None:
            found += _free_at(state, ends.get(name, ()), count, clock)
    return nsmallest(count, found)


def _free_at(
    state: SubstationState, ends: Sequence[float], count: int, clock: float
) -> list[float]:
    places = _places(state, clock)
    mean = usual_seconds(state.session_seconds)
    in_use = [end if end > clock else clock + OVERDUE_SHARE * mean for end in sorted(ends)]
    unknown = max(0, round(state.load) - len(in_use))
    in_use = sorted([*in_use, *[clock + mean] * min(unknown, places)])
    if len(in_use) > places:
        # an operator has lowered the limit, or one was dispatched ahead: the first end frees none
        in_use = in_use[len(in_use) - places :]
    free = min(count, places - len(in_use))
    return [clock] * free + in_use


def _places(state: SubstationState, clock: float) -> int:
    """Return how many sessions of the usual power a substation may have at once."""
    places, most_kw = int(state.places), state.most_kw(clock)
    if most_kw is None:
        return places
    by_power = int((most_kw - state.background_kw) / DEFAULT_POWER_KW)
    return max(0, min(places, by_power))
