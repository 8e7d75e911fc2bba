"""What a decision saw, and why it went as it did: as the event log and the api show it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dispatcher.decision.account import Account
from dispatcher.decision.fleet import FULL, Fleet
from dispatcher.decision.line import Wish
from dispatcher.decision.router import Choice
from dispatcher.readings import LOAD
from grid.controls import Availability

TAKEN: Final = "full"
NO_POWER: Final = "not enough power left"
NOT_NAMED: Final = "not among the request's eligible substations"
LISTED: Final = 20  # candidates that the record of a decision names
BLIND: Final = "; no gauge is current, so by the ledger alone"
KEPT: Final = "kept for a request that has waited for power"
AHEAD: Final = "; sent ahead, the next to be charged there"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A substation as a decision sees it; ``problem`` says why it cannot be chosen, or None.

    ``load`` counts sessions in progress and on their way, as far as is known or, where only pages
    tell, to be expected; ``connectors`` what it can charge at once, ``room`` how far the load may
    go. ``gauge`` is what its page said ``gauge_age`` seconds ago, ``outstanding`` the jobs that no
    session shows yet. ``kept`` says that it is kept for one request. Power is in kW.
    """

    substation: str
    load: float
    connectors: float
    room: float
    utilisation: float
    gauge: float
    gauge_age: float | None
    outstanding: float
    power_kw: float
    rated_power_kw: float | None
    drained: bool
    limit: float | None
    ejected: bool
    kept: bool
    problem: str | None


def candidate(account: Account, fleet: Fleet, now: float) -> Candidate:
    """Give what is known of a substation at ``now``, in the ledger's seconds."""
    ledger = fleet.ledger
    problem = ledger.ineligible(account, now)
    if problem is not None and account.consumers and fleet.blind(now):
        problem = problem if ledger.barred(account, now) else None
    return Candidate(
        account.substation,
        account.load_at(now),
        account.connectors,
        fleet.room(account, now),
        account.utilisation(now),
        account.gauge(LOAD) or 0.0,
        account.age(now),
        account.outstanding,
        account.power_kw,
        account.rated_power_kw,
        account.drained,
        account.limit,
        account.health.ejected(now),
        account.substation == fleet.kept,
        problem,
    )


def why_not(candidate: Candidate, wish: Wish | None = None) -> str | None:
    """Say why a request cannot go to a substation now, or None where it can."""
    if wish is not None and wish.named and candidate.substation not in wish.named:
        return NOT_NAMED
    if candidate.problem is not None:
        return candidate.problem
    if candidate.kept:
        return KEPT
    if candidate.load + 1.0 > candidate.room:
        return TAKEN
    rated, more = candidate.rated_power_kw, 0.0 if wish is None else wish.power_kw
    if rated is not None and candidate.power_kw + more > rated * FULL:
        return NO_POWER
    return None


def explain(candidate: Candidate, wish: Wish | None = None) -> dict[str, Any]:
    """Give what is seen of a substation, ready for JSON."""
    problem = why_not(candidate, wish)
    age = candidate.gauge_age
    return {
        "substation": candidate.substation,
        "load": candidate.load,
        "connectors": candidate.connectors,
        "utilisation": round(candidate.utilisation, 4),
        "gauge": candidate.gauge,
        "gauge_age_seconds": None if age is None else round(age, 3),
        "outstanding": candidate.outstanding,
        "power_kw": round(candidate.power_kw, 3),
        "rated_power_kw": candidate.rated_power_kw,
        "state": Availability.DRAINING if candidate.drained else Availability.AVAILABLE,
        "limit": candidate.limit,
        "eligible": problem is None,
        "reason": problem,
    }


def record(policy: str, choice: Choice, wish: Wish, fleet: Fleet, now: float) -> Mapping[str, Any]:
    """Give the record of a decision: the lightest candidates and the chosen one, and why.

    To be made before the ledger knows of it.
    """
    names = fleet.lightest(LISTED, wish.named, now)
    if choice.substation not in names:
        names.append(choice.substation)
    open_to = choice.open_to
    reason = choice.reason + BLIND * open_to.blind + AHEAD * open_to.ahead
    accounts = fleet.ledger.accounts
    seen = [candidate(accounts[name], fleet, now) for name in names]
    return {
        "policy": policy,
        "reason": reason,
        "candidates": [explain(each, wish) for each in seen],
    }
