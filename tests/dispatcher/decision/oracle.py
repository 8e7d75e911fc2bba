"""The expected results, by plain arithmetic on one substation at a time."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from math import ceil, exp, inf

from dispatcher.decision.account import Account
from dispatcher.decision.fleet import Fleet
from dispatcher.decision.ledger import Ledger
from dispatcher.readings import BACKGROUND_POWER, CONNECTORS, LOAD, POWER, RATED_POWER
from grid.messages import DEFAULT_POWER_KW
from tests.dispatcher.decision.fleets import PERIOD

NEARLY = 1e-8  # of a share: a smaller difference is none


def load(account: Account) -> float:
    """Return the sessions in progress and in flight."""
    if account.counts is None:
        sent = max(account.ready, len(account.sent_at))
        return (account.gauge(LOAD) or 0) + sent
    counts = account.counts
    return counts.load + max(0, account.dispatched - counts.accepted - counts.dropped)


def deaf(account: Account, now: float) -> bool:
    """Return whether its load is known from pages only."""
    return account.counts is None or (account.owed is not None and now - account.owed[1] > 1)


def expected(account: Account, now: float) -> float:
    """Return the load that a decision uses: if only pages are known, it falls as time passes."""
    if not deaf(account, now):
        return load(account)
    left, since = account.expected
    seconds = now - since
    if not account.session_seconds or seconds <= 0:
        return left
    leaving = places(account) / account.session_seconds  # a second, while all capacity is used
    while left > places(account) and seconds > 0:
        step = min(seconds, (left - places(account)) / leaving)
        left, seconds = left - step * leaving, seconds - step
        if step < 1e-12:
            break
    return left * exp(-seconds / account.session_seconds)


def places(account: Account) -> float:
    """Return the sessions it may have at once."""
    connectors = account.gauge(CONNECTORS) or account.in_file
    return min(connectors, account.limit or inf)


def power(account: Account) -> float:
    """Return the power drawn there and in flight, in kW."""
    sessions = account.counts.load if account.counts else account.gauge(LOAD) or 0
    charging = account.counts.power_kw if account.counts else None
    if charging is None:
        charging = account.gauge(POWER)
    if charging is None:
        charging = DEFAULT_POWER_KW * sessions
    way = sum(account.way) + DEFAULT_POWER_KW * max(0, load(account) - sessions - len(account.way))
    return (account.gauge(BACKGROUND_POWER) or 0) + charging + way


def share(account: Account, requested: float, now: float) -> float:
    """Return the utilisation with a request of so much power placed there."""
    by_places = (expected(account, now) + 1) / places(account)
    rated = account.gauge(RATED_POWER)
    if rated is None:
        return by_places
    return max(by_places, (power(account) + requested) / rated if rated else inf)


def has_room(account: Account, requested: float, now: float, slow_start: float) -> bool:
    """Return whether it has capacity for a request of so much power, without dispatch ahead."""
    most = places(account)
    room = deepcopy(account.health).ramp(most, now, slow_start)
    if deaf(account, now) and most == (account.gauge(CONNECTORS) or account.in_file):
        session = account.session_seconds
        waiting = ceil(most * 3 * PERIOD / session) if session else most
        room += waiting * room / most
    rated = account.gauge(RATED_POWER)
    fits = rated is None or (rated > 0 and (power(account) + requested) / rated <= 1 + NEARLY)
    return expected(account, now) + 1 <= room and fits


def usable(ledger: Ledger, named: Sequence[str], now: float) -> tuple[list[Account], bool]:
    """Return those that may be used at all, and whether that is without any current page."""
    accounts = [each for each in ledger.accounts.values() if not named or each.substation in named]
    everybody = ledger.accounts.values()
    if any(ledger.unreadable(each, now) is None for each in everybody):
        return [each for each in accounts if ledger.ineligible(each, now) is None], False
    found = [each for each in accounts if each.consumers and ledger.barred(each, now) is None]
    return found, True


def open_names(
    fleet: Fleet, requested: float, named: Sequence[str], now: float, slow_start: float
) -> set[str]:
    """Name all that a request may be sent to."""
    accounts, _ = usable(fleet.ledger, named, now)
    return {each.substation for each in accounts if has_room(each, requested, now, slow_start)}
