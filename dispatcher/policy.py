"""The decision: which substation takes a request. Pure: chance is an argument.

What may be chosen is settled before (``usable``): neither a full nor an ineligible substation,
whatever the policy. A policy sees those that are left, and only ``least-loaded`` looks at the
ledger's load. The others are what it is compared with: they see the gauge as read, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from grid.errors import ConfigurationError

if TYPE_CHECKING:
    from random import Random

    from dispatcher.ledger import Account, Ledger

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

    @property
    def name(self) -> str:
        """What the policy is called in the configuration."""

    def choose(self, open_to: Sequence[Candidate], random: Random) -> tuple[Candidate, str]:
        """Choose one of at least one; gives the choice and its reason."""


class LeastLoaded:
    """The lowest load relative to capacity after placing the request; ties at random."""

    name: Final = "least-loaded"

    def choose(self, open_to: Sequence[Candidate], random: Random) -> tuple[Candidate, str]:
        """Choose the lightest."""
        lowest = min(each.utilisation_after for each in open_to)
        lightest = [each for each in open_to if each.utilisation_after <= lowest]
        chosen, tied = _draw(lightest, random)
        return chosen, f"lowest utilisation after placing it: {lowest:.3g}{tied}"


class LeastGauge:
    """The lowest gauge, with nothing added or taken off since it was read; ties at random."""

    name: Final = "least-gauge"

    def choose(self, open_to: Sequence[Candidate], random: Random) -> tuple[Candidate, str]:
        """Choose what looked lightest when it was read."""
        lowest = min(each.gauge for each in open_to)
        chosen, tied = _draw([each for each in open_to if each.gauge == lowest], random)
        return chosen, f"lowest gauge: {lowest:g}{tied}"


class PowerOfTwo:
    """The lower gauge of two substations drawn at random; ties at random."""

    name: Final = "power-of-two"

    def choose(self, open_to: Sequence[Candidate], random: Random) -> tuple[Candidate, str]:
        """Draw two, or all where there are no two, and choose by their gauges."""
        drawn = random.sample(open_to, min(2, len(open_to)))
        # the draw is in random order: at a tie the first is as good as a second draw
        chosen = min(drawn, key=lambda each: each.gauge)
        gauges = " and ".join(f"{each.substation} ({each.gauge:g})" for each in drawn)
        return chosen, f"lower gauge of two drawn: {gauges}"


class RoundRobin:
    """One after the other, by name; one that cannot be chosen loses its turn."""

    name: Final = "round-robin"

    def __init__(self) -> None:
        self._last = ""

    def choose(
        self,
        open_to: Sequence[Candidate],
        random: Random,  # noqa: ARG002  # others draw lots
    ) -> tuple[Candidate, str]:
        """Choose the next."""
        last = self._last
        chosen = min(open_to, key=lambda each: (each.substation <= last, each.substation))
        self._last = chosen.substation
        return chosen, f"next after {last}" if last else "the first"


class ByLot:
    """Any, each as likely as the others."""

    name: Final = "random"

    def choose(self, open_to: Sequence[Candidate], random: Random) -> tuple[Candidate, str]:
        """Draw one."""
        return random.choice(open_to), f"by lot among {len(open_to)}"


POLICIES: Final[Mapping[str, type[Policy]]] = {
    LeastLoaded.name: LeastLoaded,
    LeastGauge.name: LeastGauge,
    PowerOfTwo.name: PowerOfTwo,
    RoundRobin.name: RoundRobin,
    ByLot.name: ByLot,
}
DEFAULT: Final = LeastLoaded.name


def policy(name: str) -> Policy:
    """Make the policy of that name.

    Raises ``ConfigurationError``, which lists the names there are, where there is none.
    """
    if (found := POLICIES.get(name)) is None:
        raise ConfigurationError(f"there is no policy {name!r}: choose of {', '.join(POLICIES)}")
    return found()


def candidate(account: Account, ledger: Ledger, now: float) -> Candidate:
    """Give what a decision at ``now``, in the ledger's seconds, sees of a substation."""
    return Candidate(
        account.substation,
        account.load,
        account.connectors,
        ledger.ineligible(account, now),
        account.gauge,
        account.age(now),
        account.outstanding,
    )


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


def _draw(tied: Sequence[Candidate], random: Random) -> tuple[Candidate, str]:
    """Draw one of those that are equally good, and say so if there are several."""
    if len(tied) == 1:
        return tied[0], ""
    return random.choice(tied), f", by lot among {len(tied)}"
