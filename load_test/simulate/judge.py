"""Was each choice right? Judged by the true state, just before the job arrives. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from statistics import fmean
from typing import Final

from load_test.simulate.substation import Substation

_ROUNDING: Final = 1e-9


class Judge:
    """A judge that sees the true state; a substation that is down is not compared.

    ``misroutes`` counts jobs sent to a substation when, with the job placed, another's utilisation
    would truly have been lower.
    """

    def __init__(self, stations: Sequence[Substation]) -> None:
        self._stations = stations
        self._mean_size = fmean(each.connectors for each in stations)
        self._widest = 0.0
        self.misroutes = 0

    @property
    def spread(self) -> float:
        """Return the largest difference of loads when a job was sent, in mean-sized sessions."""
        return self._widest * self._mean_size

    def sent(self, chosen: Substation) -> None:
        """Judge a job that is sent to this substation now."""
        after = (chosen.in_hand + 1) / chosen.connectors
        least_utilised, lowest, highest = after, inf, 0.0
        for each in self._stations:
            if not each.down:
                hand = len(each.charging) + len(each.queue)
                load = hand / each.connectors
                least_utilised = min(least_utilised, (hand + 1) / each.connectors)
                lowest, highest = min(lowest, load), max(highest, load)
        self.misroutes += after > least_utilised + _ROUNDING
        self._widest = max(self._widest, highest - lowest)
