"""Ledgers and pages for the tests of the decision."""

from __future__ import annotations

from dispatcher.decision.account import Account
from dispatcher.decision.ledger import Ledger
from dispatcher.readings import Reading
from grid.events import Counts

A = "a"
RUN = 1000.0  # when a substation's process started


def ledger_of(*names: str, connectors: float | None = None) -> Ledger:
    """Make a ledger of some substations, stale after 2 s."""
    ledger = Ledger(stale_after=2, default_connectors=50)
    ledger.keep(dict.fromkeys(names or (A,), connectors))
    return ledger


def page(
    load: float,
    accepted: float = 0,
    completed: float = 0,
    run: float = RUN,
    power_kw: float | None = None,
) -> Reading:
    """Return a page with counters, and with the power in kW if that is given."""
    return Reading(load, 50, power_kw, counts=Counts(load, accepted, completed, 0, run, power_kw))


def set_scale(ledger: Ledger, reading: Reading, now: float = 0, ready: float = 0) -> Account:
    """Set the baseline of substation a from a page and the depth of its queue."""
    ledger.read(A, reading, now)
    ledger.ask_depth(A)
    ledger.depth(A, ready, now)
    ledger.read(A, reading, now)
    account = ledger.accounts[A]
    assert account.anchored
    return account


def anchored(load: float = 0, accepted: float = 0, ready: float = 0) -> tuple[Ledger, Account]:
    """Make a ledger that knows substation a at 0 s, and its baseline."""
    ledger = ledger_of()
    return ledger, set_scale(ledger, page(load, accepted, accepted - load), ready=ready)
