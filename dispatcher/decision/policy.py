"""The decision: which substation takes a request. Pure: chance is an argument.

What may be chosen is settled before, by the fleet: neither a full nor an ineligible substation,
whatever the policy. A policy sees those that are left, and only ``least-loaded`` and
``most-headroom`` look at what the ledger knows. The others are what they are compared with: they
see the gauge as read, or nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from dispatcher.decision.fleet import Open
from dispatcher.decision.rows import Row
from grid.errors import ConfigurationError

if TYPE_CHECKING:
    from random import Random


class Policy(Protocol):
    """A way to choose among substations that may all be chosen."""

    @property
    def name(self) -> str:
        """What the policy is called in the configuration."""

    def choose(self, open_to: Open, random: Random) -> tuple[int, str]:
        """Choose a place in ``open_to``; gives it and the reason."""


class LeastLoaded:
    """The lowest utilisation after placing the request; ties at random."""

    name: Final = "least-loaded"

    def choose(self, open_to: Open, random: Random) -> tuple[int, str]:
        """Choose the lightest."""
        place, lowest, tied = _lowest(open_to.after, random)
        return place, f"lowest utilisation after placing it: {lowest:.3g}{tied}"


class MostHeadroom:
    """The most power left, in kW; ties at random."""

    name: Final = "most-headroom"

    def choose(self, open_to: Open, random: Random) -> tuple[int, str]:
        """Choose where most power is left; one that does not tell has none."""
        place, lowest, tied = _lowest(-open_to.headroom, random)
        return place, f"most headroom: {-lowest:.4g} kW{tied}"


class LeastGauge:
    """The lowest gauge, with nothing added or taken off since it was read; ties at random."""

    name: Final = "least-gauge"

    def choose(self, open_to: Open, random: Random) -> tuple[int, str]:
        """Choose what looked lightest when it was read."""
        place, lowest, tied = _lowest(open_to.gauge, random)
        return place, f"lowest gauge: {lowest:g}{tied}"


class PowerOfTwo:
    """The lower gauge of two substations drawn at random; ties at random."""

    name: Final = "power-of-two"

    def choose(self, open_to: Open, random: Random) -> tuple[int, str]:
        """Draw two, or all where there are no two, and choose by their gauges."""
        gauge, count = open_to.gauge, len(open_to.numbers)
        drawn = random.sample(range(count), min(2, count))
        # the draw is in random order: at a tie the first is as good as a second draw
        chosen = min(drawn, key=lambda place: gauge[place])
        gauges = " and ".join(f"{open_to.name(each)} ({gauge[each]:g})" for each in drawn)
        return chosen, f"lower gauge of two drawn: {gauges}"


class RoundRobin:
    """One after the other, by name; one that cannot be chosen loses its turn."""

    name: Final = "round-robin"

    def __init__(self) -> None:
        self._last = ""

    def choose(
        self,
        open_to: Open,
        random: Random,  # noqa: ARG002  # others draw lots
    ) -> tuple[int, str]:
        """Choose the next."""
        last = self._last
        following = np.searchsorted(open_to.numbers, bisect_right(open_to.names, last))
        place = int(following) % len(open_to.numbers)
        self._last = open_to.name(place)
        return place, f"next after {last}" if last else "the first"


class ByLot:
    """Any, each as likely as the others."""

    name: Final = "random"

    def choose(self, open_to: Open, random: Random) -> tuple[int, str]:
        """Draw one."""
        count = len(open_to.numbers)
        return random.randrange(count), f"drawn among {count}"


_ALL: Final[tuple[type[Policy], ...]] = (
    LeastLoaded, MostHeadroom, LeastGauge, PowerOfTwo, RoundRobin, ByLot,
)  # fmt: skip
POLICIES: Final[Mapping[str, type[Policy]]] = {str(each.name): each for each in _ALL}
DEFAULT: Final = LeastLoaded.name


def policy(name: str) -> Policy:
    """Make the policy of that name.

    Raises ``ConfigurationError``, which lists the names there are, where there is none.
    """
    if (found := POLICIES.get(name)) is None:
        raise ConfigurationError(f"there is no policy {name!r}: choose of {', '.join(POLICIES)}")
    return found()


def _lowest(values: Row, random: Random) -> tuple[int, float, str]:
    """Draw one place of the lowest value, and say so if there are several."""
    first = int(values.argmin())
    lowest = values[first]
    tied = (values == lowest).nonzero()[0]
    if len(tied) == 1:
        return first, float(lowest), ""
    place = int(tied[random.randrange(len(tied))])
    return place, float(lowest), f", drawn among {len(tied)}"
