"""The decision: which substation takes a request. Pure: chance is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from random import Random

FULL: Final = "full"
NOT_NAMED: Final = "not among the request's eligible substations"
LISTED: Final = 20  # candidates that the record of a decision names


@dataclass(frozen=True, slots=True)
class Candidate:
    """A substation as the decision sees it; ``problem`` says why it cannot be chosen, or None.

    ``load`` counts sessions in progress and on their way, ``connectors`` what it can charge at
    once. The last three explain the load: what the gauge said, how old that is in seconds, and the
    jobs the gauge does not show yet.
    """

    substation: str
    load: float
    connectors: float
    problem: str | None
    gauge: float
    gauge_age: float | None
    outstanding: float

    @property
    def utilisation(self) -> float:
        """Load ÷ connectors, before the request."""
        return self.load / self.connectors

    @property
    def utilisation_after(self) -> float:
        """Load ÷ connectors, with the request placed here."""
        return (self.load + 1) / self.connectors


class Policy(Protocol):
    """A way to choose among substations that may all be chosen."""

    name: str

    def choose(self, open_to: Sequence[Candidate], random: Random) -> tuple[Candidate, str]:
        """Choose one of at least one; gives the choice and its reason."""


class LeastLoaded:
    """The lowest load relative to capacity after placing the request; ties at random."""

    name = "least-loaded"

    def choose(self, open_to: Sequence[Candidate], random: Random) -> tuple[Candidate, str]:
        """Choose the lightest."""
        lowest = min(each.utilisation_after for each in open_to)
        lightest = [each for each in open_to if each.utilisation_after <= lowest]
        chosen = lightest[0] if len(lightest) == 1 else random.choice(lightest)
        tied = f", by lot among {len(lightest)}" if len(lightest) > 1 else ""
        return chosen, f"lowest utilisation after placing it: {lowest:.3g}{tied}"


def usable(candidates: Sequence[Candidate], named: Sequence[str]) -> list[Candidate]:
    """Give the substations that a request can go to now.

    ``named`` are the only ones it may go to, or none where any will do.
    """
    return [each for each in candidates if why_not(each, named) is None]


def why_not(candidate: Candidate, named: Sequence[str]) -> str | None:
    """Say why a request cannot go to a substation now, or None where it can."""
    if named and candidate.substation not in named:
        return NOT_NAMED
    if candidate.problem is not None:
        return candidate.problem
    return FULL if candidate.utilisation_after > 1 else None


def record(
    policy: str,
    reason: str,
    candidates: Sequence[Candidate],
    chosen: Candidate,
    named: Sequence[str],
) -> Mapping[str, Any]:
    """Give the record of a decision: the lightest candidates and the chosen one, and why."""
    listed = sorted(candidates, key=lambda each: each.utilisation)[:LISTED]
    if chosen not in listed:
        listed.append(chosen)
    return {
        "policy": policy,
        "reason": reason,
        "candidates": [explain(each, named) for each in listed],
    }


def explain(candidate: Candidate, named: Sequence[str] = ()) -> dict[str, Any]:
    """Give what a decision saw of a substation, as the event log shows it."""
    problem = why_not(candidate, named)
    age = candidate.gauge_age
    return {
        "substation": candidate.substation,
        "load": candidate.load,
        "connectors": candidate.connectors,
        "utilisation": round(candidate.utilisation, 4),
        "gauge": candidate.gauge,
        "gauge_age_seconds": None if age is None else round(age, 3),
        "outstanding": candidate.outstanding,
        "eligible": problem is None,
        "reason": problem,
    }
