"""Scoring and picking: which candidate takes a job. Pure: chance is an argument.

What may be chosen is settled before, by filtering: neither a full nor an ineligible substation,
whatever the policy. A policy of one's own is a class with a ``name`` and a method ``pick``; it is
named by its import path: ``POLICY=depot.SpreadFeeders`` (``dispatcher.choices``). Its module lies
in the project's folder, or is installed beside its packages. ``pick`` returns the number of one of
``candidates.numbers``, which all have capacity; it cannot have the job wait. If it raises, or
returns another number, the request is rejected and parked, and the dispatcher logs the error and
ends, to be started again: a policy that always fails costs a restart for each request. What
a policy has to know of the substations stands as labels in the target file (``candidates.labels``).
It does not place the starts that are promised beforehand (``scheduling.bookings``).
``docs/examples/depot.py`` is an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from scheduling.candidates import Candidates

if TYPE_CHECKING:
    from random import Random


class Pick(NamedTuple):
    """The number of the substation that takes a job, and the reason in words."""

    number: int
    reason: str


class Policy(Protocol):
    """A way to choose among substations that may all be chosen."""

    @property
    def name(self) -> str:
        """Return what explanations call the policy."""

    def pick(self, candidates: Candidates, random: Random) -> Pick:
        """Return one of the candidates, and why it is the one."""


class LeastLoaded:
    """The lowest utilisation after placing the job; ties at random."""

    name: Final = "least-loaded"

    def pick(self, candidates: Candidates, random: Random) -> Pick:
        """Return the least utilised."""
        lowest = candidates.lowest
        number, tied = drawn_among(candidates.after == lowest, random)
        return Pick(number, f"lowest utilisation after placing it: {lowest:.3g}{tied}")


class MostHeadroom:
    """The most power left, in kW; ties at random."""

    name: Final = "most-headroom"

    def pick(self, candidates: Candidates, random: Random) -> Pick:
        """Return the one with most power left; one that names no rating has none."""
        headroom = np.where(candidates.after < inf, candidates.figures.headroom, -inf)
        most = headroom.max()
        if most == -inf:
            number, tied = drawn_among(candidates.after < inf, random)
            return Pick(number, f"no substation reports its rated power{tied}")
        number, tied = drawn_among(headroom == most, random)
        return Pick(number, f"most headroom: {most:.4g} kW{tied}")


POLICIES: Final[Mapping[str, type[Policy]]] = {
    LeastLoaded.name: LeastLoaded,
    MostHeadroom.name: MostHeadroom,
}
DEFAULT: Final = LeastLoaded.name


def drawn_among(is_tied: NDArray[np.bool_], random: Random) -> tuple[int, str]:
    """Return the number of a substation that is the best, and a note where several tied."""
    tied = is_tied.nonzero()[0]
    if len(tied) == 1:
        return int(tied[0]), ""
    return int(tied[random.randrange(len(tied))]), f", drawn among {len(tied)}"
