"""The power limits of all substations that have some, as arrays. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import numpy as np
from numpy.typing import NDArray

from scheduling.figures import Array
from scheduling.power_limits import TOLERANCE, LimitSteps, usual_seconds


class LimitTable:
    """The limits of several substations side by side.

    Args:
        limits: The limits by the substation's number.
    """

    def __init__(self, limits: Mapping[int, LimitSteps]) -> None:
        self.numbers: NDArray[np.intp] = np.array(sorted(limits), dtype=np.intp)
        self._places = {int(number): place for place, number in enumerate(self.numbers)}
        width = max(len(each.steps) for each in limits.values())
        self._starts = np.full((len(limits), width), inf)
        self._ends = np.full((len(limits), width), inf)
        self._most_kw = np.full((len(limits), width), inf)
        for number, place in self._places.items():
            rows = np.array([each[:3] for each in limits[number].steps])
            count = len(rows)
            self._starts[place, :count] = rows[:, 0]
            self._ends[place, :count] = rows[:, 1]
            self._most_kw[place, :count] = rows[:, 2] * TOLERANCE
        self._first_starts, self._all_end = self._starts.min(axis=0), self._ends.max(axis=0)
        self._session_seconds = np.full(len(limits), usual_seconds(None))
        self._seen = -inf  # the time up to which changes were taken
        self._next = -inf

    def note_session(self, number: int, seconds: float | None) -> None:
        """Note how long sessions take at a substation, in the mean; None where nobody knows."""
        if (place := self._places.get(number)) is not None:
            self._session_seconds[place] = usual_seconds(seconds)

    def take_changed(self, clock: float) -> list[int]:
        """Return the numbers of those whose limit changed since this was last asked."""
        if self._seen <= clock < self._next:
            return []
        # the clock may also have been set back
        low, high = min(self._seen, clock), max(self._seen, clock)
        changed = ((self._starts > low) & (self._starts <= high)).any(axis=1)
        self._seen = clock
        self._next = float(self._starts[self._starts > clock].min(initial=inf))
        return [int(each) for each in self.numbers[changed]]

    def crossed(self, power_kw: Array, seconds: float, clock: float) -> NDArray[np.intp]:
        """Return the numbers of those where so much power would cross a limit.

        Args:
            power_kw: What each would draw, in the order of ``numbers``.
            seconds: For how long from ``clock``; 0 for as long as sessions take there.
            clock: The time.
        """
        until = clock + (np.array([seconds]) if seconds else self._session_seconds)
        # only the columns that begin before that, and are not over everywhere
        first = self._all_end.searchsorted(clock, side="right")
        last = max(
            self._first_starts.searchsorted(clock, side="right"),
            self._first_starts.searchsorted(until.max()),
        )
        starts, ends = self._starts[:, first:last], self._ends[:, first:last]
        begins = (starts < until[:, None]) | (starts <= clock)
        over = power_kw[:, None] > self._most_kw[:, first:last]
        return self.numbers[(begins & (ends > clock) & over).any(axis=1)]
