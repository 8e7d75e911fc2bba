"""The few lowest of very many numbers, kept while single ones change. Pure.

A decision names the twenty least utilised substations. To find these among 10,000 takes longer than
the decision; from one decision to the next, hardly any of them change.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

from scheduling.figures import Array

_SPARE = 5  # as many more are kept, so that some may leave before all are looked through again


class Lowest:
    """The places of the ``count`` lowest numbers of an array, in their order; ties by place.

    ``update`` has to be told of each number that has changed.
    """

    def __init__(self, values: Array, count: int) -> None:
        self._values = values
        self._count = count
        self._kept: list[tuple[float, int]] = []  # sorted: all that are at most the limit
        self._limit: tuple[float, int] | None = None  # None: all are kept
        self._known: dict[int, float] = {}  # the numbers of those that are kept, by place
        self._fill()

    def places(self) -> list[int]:
        """Return the places of the lowest numbers, as many as there are at most ``count``."""
        return [place for _, place in self._kept[: self._count]]

    def update(self, place: int, value: float) -> None:
        """Apply the new number at a place, which is in the array already."""
        if (before := self._known.pop(place, None)) is not None:
            del self._kept[bisect_left(self._kept, (before, place))]
        if self._limit is None or (value, place) <= self._limit:
            self._known[place] = value
            insort(self._kept, (value, place))
            if len(self._kept) > 2 * self._count * _SPARE:
                self._fill()
        elif len(self._kept) < self._count:
            self._fill()

    def _fill(self) -> None:
        values, most = self._values, self._count * _SPARE
        if len(values) <= most:
            chosen = np.arange(len(values))
        else:
            highest = np.partition(values, most - 1)[most - 1]
            below = (values < highest).nonzero()[0]
            equal = (values == highest).nonzero()[0]
            chosen = np.concatenate([below, equal[: most - len(below)]])
        self._kept = sorted(zip(values[chosen].tolist(), chosen.tolist(), strict=True))
        self._known = {place: value for value, place in self._kept}
        self._limit = None if len(values) <= most else self._kept[-1]
