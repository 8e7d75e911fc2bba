"""The policies that are compared: the project's, and those of others that see only the gauge. Pure.

The others see the gauge as it was read, or nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Final

import numpy as np

from scheduling import policies
from scheduling.candidates import Candidates
from scheduling.policies import Pick, Policy, drawn_among

if TYPE_CHECKING:
    from random import Random


class LeastGauge:
    """The lowest gauge, with nothing added or taken off since it was read; ties at random."""

    name: Final = "least-gauge"

    def pick(self, candidates: Candidates, random: Random) -> Pick:
        """Return the substation whose gauge was lowest when it was read."""
        scores = np.where(candidates.after < inf, candidates.figures.gauge, inf)
        lowest = scores.min()
        number, tied = drawn_among(scores == lowest, random)
        return Pick(number, f"lowest gauge: {lowest:g}{tied}")


class PowerOfTwo:
    """The lower gauge of two substations drawn at random; ties at random."""

    name: Final = "power-of-two"

    def pick(self, candidates: Candidates, random: Random) -> Pick:
        """Draw two, or all where there are no two, and choose by their gauges."""
        gauge, numbers = candidates.figures.gauge, candidates.numbers.tolist()
        drawn = random.sample(numbers, min(2, len(numbers)))
        # the draw is in random order: at a tie the first is as good as a second draw
        chosen = min(drawn, key=lambda number: gauge[number])
        gauges = " and ".join(f"{candidates.name(each)} ({gauge[each]:g})" for each in drawn)
        return Pick(chosen, f"lower gauge of two drawn: {gauges}")


class RoundRobin:
    """One after the other, by name; one that cannot be chosen loses its turn."""

    name: Final = "round-robin"

    def __init__(self) -> None:
        self._last = ""

    def pick(
        self,
        candidates: Candidates,
        random: Random,  # noqa: ARG002  # others draw lots
    ) -> Pick:
        """Return the next."""
        last, numbers = self._last, candidates.numbers
        following = int(np.searchsorted(numbers, bisect_right(candidates.names, last)))
        number = int(numbers[following % len(numbers)])
        self._last = candidates.name(number)
        return Pick(number, f"next after {last}" if last else "the first")


class ByLot:
    """Any, each as likely as the others."""

    name: Final = "random"

    def pick(self, candidates: Candidates, random: Random) -> Pick:
        """Draw one."""
        numbers = candidates.numbers
        count = len(numbers)
        return Pick(int(numbers[random.randrange(count)]), f"drawn among {count}")


POLICIES: Final[Mapping[str, type[Policy]]] = {
    **policies.POLICIES,
    LeastGauge.name: LeastGauge,
    PowerOfTwo.name: PowerOfTwo,
    RoundRobin.name: RoundRobin,
    ByLot.name: ByLot,
}
