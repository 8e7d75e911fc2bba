"""Scoring and picking: which candidate takes a job. Pure: chance is an argument.

What may be chosen is settled before, by filtering: neither a full nor an ineligible substation,
whatever the policy. A policy of one's own is a class with a ``name`` and a method ``pick``; it is
named by its import path: ``POLICY=depot.policies.SameFeeder`` (``dispatcher.policy``).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

from scheduling.candidates import Candidates
from scheduling.figures import Array

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
        number, lowest, tied = lowest_of(candidates.after, random)
        return Pick(number, f"lowest utilisation after placing it: {lowest:.3g}{tied}")


class MostHeadroom:
    """The most power left, in kW; ties at random."""

    name: Final = "most-headroom"

    def pick(self, candidates: Candidates, random: Random) -> Pick:
        """Return the one with most power left; one that names no rating has none."""
        scores = np.where(candidates.after < inf, -candidates.figures.headroom, inf)
        if scores.min() == inf:  # none of them names a rating
            scores = np.where(candidates.after < inf, 0.0, inf)
        number, lowest, tied = lowest_of(scores, random)
        return Pick(number, f"most headroom: {-lowest:.4g} kW{tied}")


POLICIES: Final[Mapping[str, type[Policy]]] = {
    LeastLoaded.name: LeastLoaded,
    MostHeadroom.name: MostHeadroom,
}
DEFAULT: Final = LeastLoaded.name


def lowest_of(scores: Array, random: Random) -> tuple[int, float, str]:
    """Return the number of a lowest score, drawn where several tie, the score, and a note of it."""
    first = int(scores.argmin())
    lowest = scores[first]
    tied = (scores == lowest).nonzero()[0]
    if len(tied) == 1:
        return first, float(lowest), ""
    number = int(tied[random.randrange(len(tied))])
    return number, float(lowest), f", drawn among {len(tied)}"
