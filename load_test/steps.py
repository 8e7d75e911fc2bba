"""Step functions of time: how many sessions, how much power, how many wait. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Final

_DIGITS: Final = 9  # sums of fractions leave a remainder beyond


@dataclass(frozen=True, slots=True)
class Steps:
    """A value that changes at ``times``, in ascending order, to each of ``values``; 0 before."""

    times: Sequence[float]
    values: Sequence[float]

    def at(self, time: float) -> float:
        """Return the value at a time, after what changes then."""
        place = bisect_right(self.times, time)
        return self.values[place - 1] if place else 0.0

    @property
    def peak(self) -> float:
        """Return the highest value."""
        return max(self.values, default=0.0)

    def mean(self, since: float, until: float) -> float:
        """Return the mean over a time; of an instant, the value then."""
        if until <= since:
            return self.at(since)
        return sum(v * (b - a) for a, b, v in self.pieces(since, until)) / (until - since)

    def highest(self, since: float, until: float) -> float:
        """Return the highest value within a time."""
        return max((value for _, _, value in self.pieces(since, until)), default=self.at(since))

    def seconds_above(self, limit: float) -> float:
        """Return for how long the value was above a limit."""
        steps = zip(pairwise(self.times), self.values, strict=False)
        return sum(end - begin for (begin, end), value in steps if value > limit)

    def pieces(self, since: float, until: float) -> Iterator[tuple[float, float, float]]:
        """Yield beginning, end and value of each piece within a time."""
        inner = self.times[bisect_right(self.times, since) : bisect_right(self.times, until)]
        for begin, end in pairwise([since, *inner, until]):
            if end > begin:
                yield begin, end, self.at(begin)


def steps(changes: Iterable[tuple[float, float]]) -> Steps:
    """Return the sum of changes, each a time and by how much."""
    ordered = sorted(changes)
    together = [
        (time, sum(change for _, change in each))
        for time, each in groupby(ordered, key=lambda change: change[0])
    ]
    sums = accumulate(change for _, change in together)
    return Steps([time for time, _ in together], [round(each, _DIGITS) for each in sums])


def present(intervals: Iterable[tuple[float, float]]) -> Steps:
    """Return how many intervals, from beginning to end, a time lies within."""
    return stacked((begin, end, 1.0) for begin, end in intervals)


def stacked(intervals: Iterable[tuple[float, float, float]]) -> Steps:
    """Return the sum of what intervals, from beginning to end, add while they last."""
    changes = []
    for begin, end, value in intervals:
        changes += [(begin, value), (max(begin, end), -value)]
    return steps(changes)
