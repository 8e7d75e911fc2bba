"""How an account changes by a page or an event of its substation. Pure: times are in seconds."""

from __future__ import annotations

from typing import Final

from dispatcher.decision.account import Account, Gauge, brought, progress, taken, written
from dispatcher.readings import LOAD, Reading
from grid.events import Counts

DOUBT_SECONDS: Final = 5.0  # jobs that are on their way for so long may be gone from the queue


def hear_page(account: Account, reading: Reading, asked_at: float) -> None:
    """Take in a page that was asked for at ``asked_at``."""
    counts, known = reading.counts, account.counts
    new_run = _is_new_run(account, counts)
    foreseen = _foreseen(account, asked_at)
    _take_gauges(account, reading, asked_at, afresh=new_run)
    account.problem = account.refusal = account.failing_since = None
    account.session_seconds = reading.session_seconds or account.session_seconds
    shown_at = account.gauges[LOAD].asked_at  # earlier where the page has a timestamp for it
    account.sent_at = [sent for sent in account.sent_at if sent >= shown_at]
    if new_run and known is not None:
        account.health.fall(asked_at)
    if counts is None:
        account.counts, account.anchored = None, True
    else:
        _count(account, counts)
        _owe(account, counts, asked_at, afresh=new_run)
        _doubt(account, counts, asked_at)
        _anchor(account, counts, shown_at)
    account.health.rise(asked_at, account.load)
    account.expected = _expected(account, None if new_run else foreseen), asked_at
    _trim(account)


def hear_event(account: Account, counts: Counts) -> bool:
    """Take in counters that came with an event; tells whether something follows from them.

    Only a page makes a new run known: an event may be from a run that is over.
    """
    if account.counts is None or counts.started_at != account.counts.started_at:
        return False
    load, owed = account.load, account.owed
    _count(account, counts)
    _told(account, counts)
    _trim(account)
    # a session that begins moves a job from one side of the sum to the other
    return load != account.load or owed != account.owed or account.rated_power_kw is not None


def _is_new_run(account: Account, counts: Counts | None) -> bool:
    known = account.counts
    if counts is None or known is None:
        return counts is not None
    return known.started_at != counts.started_at


def _take_gauges(account: Account, reading: Reading, asked_at: float, *, afresh: bool) -> None:
    """Note each gauge with its own age; one that is missing now keeps the age it has.

    Only another run of the substation may have fewer.
    """
    if afresh:
        account.gauges.clear()
    for name, value in reading.gauges().items():
        age = reading.ages.get(name)
        account.gauges[name] = Gauge(value, asked_at - (age or 0.0), stamped=age is not None)
    account.oldest = min(each.asked_at for each in account.gauges.values())
    account.size()


def _count(account: Account, counts: Counts) -> None:
    known = account.counts
    if known is None or known.started_at != counts.started_at:
        account.counts, account.anchored, account.depth = counts, False, None
        account.dispatched = taken(counts)  # until the scale is set, its sessions are all we know
        account.way.clear()
    elif progress(counts) >= progress(known):
        account.counts = counts
        account.dispatched = max(account.dispatched, brought(counts))


def _told(account: Account, counts: Counts) -> None:
    account.told = max(account.told, written(counts))
    if account.owed is not None and account.told >= account.owed[0]:
        account.owed = None


def _owe(account: Account, page: Counts, asked_at: float, *, afresh: bool) -> None:
    """Note what the event log has to tell still, since a page shows it."""
    if afresh:
        account.told, account.owed = written(page), None
    elif written(page) > account.told and account.owed is None:
        account.owed = written(page), asked_at


def _foreseen(account: Account, now: float) -> float | None:
    """Give the load that was to be expected by now, where only pages tell and that can be said."""
    if account.counts is None or account.session_seconds is None or not account.deaf(now):
        return None
    return account.expected_load(now)


def _expected(account: Account, foreseen: float | None) -> float:
    """Give what to go by until the next page, where only pages tell.

    The more connectors, the more a page shows of what will soon be over by itself: then what was
    foreseen counts as well, up to a half. With one connector the page is all. Found by simulation:
    with the page alone, three substations of ten did worse than by round robin.
    """
    if foreseen is None:
        return account.load
    weight = 0.5 + 0.5 / account.places
    return foreseen + weight * (account.load - foreseen)


def _trim(account: Account) -> None:
    """Forget jobs that have arrived, and their powers: the first that were sent.

    Without a scale it may be others that have arrived, which nobody has counted.
    """
    if not account.anchored or not (account.way or account.sent_at):
        return
    outstanding = account.outstanding
    for _ in range(int(len(account.way) - outstanding)):
        account.way.popleft()
    if account.counts is not None:
        del account.sent_at[: max(0, int(len(account.sent_at) - outstanding))]


def _anchor(account: Account, page: Counts, shown_at: float) -> None:
    """Set the scale, if nothing was taken while the depth was asked for; else ask again."""
    depth = account.depth
    if account.anchored or depth is None or depth.ready is None or shown_at < depth.known_at:
        return
    if depth.ready == 0 or brought(page) == depth.brought_before:
        account.dispatched, account.anchored = brought(page) + depth.ready, True
    account.depth = None


def _doubt(account: Account, page: Counts, now: float) -> None:
    """Have the scale set anew where jobs are on their way and none arrives.

    They wait in the queue, or somebody took them out of it: only its depth can tell. Those that the
    substation says it has are not in doubt.
    """
    state = account.dispatched, taken(page)
    if account.unmoved != state or account.outstanding <= page.waiting:
        account.unmoved, account.unmoved_since = state, now
    elif account.anchored and now - account.unmoved_since >= DOUBT_SECONDS:
        account.anchored, account.unmoved_since = False, now
