"""Power: what other consumers draw, what the sessions draw, and what is on its way, in kW."""

from __future__ import annotations

from math import inf

import pytest

from dispatcher.decision.account import Account
from dispatcher.decision.ledger import Ledger
from dispatcher.readings import Reading
from grid.events import Counts
from grid.messages import DEFAULT_POWER_KW
from tests.dispatcher.decision.ledgers import RUN, A, anchored, ledger_of, page, set_scale

USUAL = DEFAULT_POWER_KW


def powered(power_kw: float = 0, background_kw: float = 0) -> tuple[Ledger, Account]:
    """Make a ledger that knows substation a, which tells its power: of 400 kW at most."""
    ledger = ledger_of()
    counts = Counts(0, 0, 0, 0, RUN, power_kw)
    reading = Reading(0, 50, power_kw, 400, background_kw, counts)
    return ledger, set_scale(ledger, reading)


def test_power_is_background_and_sessions_and_what_is_on_its_way() -> None:
    """All three add up, and their share of the rating is what may weigh more than the load."""
    ledger, account = powered(power_kw=30, background_kw=100)
    ledger.dispatch(A, 1, 150)
    ledger.dispatch(A, 1)
    assert account.power_kw == pytest.approx(280 + USUAL)
    assert account.power_share == pytest.approx((280 + USUAL) / 400)
    assert account.utilisation(0) == account.power_share > account.load / account.places


def test_connectors_weigh_where_there_is_power_enough() -> None:
    """The larger of the two shares is the utilisation."""
    ledger, account = powered()
    for _ in range(10):
        ledger.dispatch(A, 1, 1)
    assert account.utilisation(0) == 10 / 50


def test_the_newest_word_of_the_sessions_power_holds() -> None:
    """An event or a page, whichever is newer: as with the load."""
    ledger, account = powered()
    ledger.report(A, Counts(2, 2, 0, 0, RUN, 44))
    assert account.power_kw == 44
    ledger.read(A, page(1, 1, 0, power_kw=22), 1)  # it was asked for before
    assert account.power_kw == 44
    ledger.read(A, page(2, 3, 1, power_kw=50), 2)
    assert account.power_kw == 50
    ledger.report(A, Counts(1, 3, 2, 0, RUN, 25))
    assert account.power_kw == 25


def test_jobs_on_their_way_arrive_in_the_order_they_were_sent() -> None:
    """A session that begins takes the power of the first of them."""
    ledger, account = powered()
    for power_kw in (1, 20, 300):
        ledger.dispatch(A, 1, power_kw)
    ledger.report(A, Counts(1, 1, 0, 0, RUN, 1))
    assert account.power_kw == 1 + 20 + 300
    ledger.report(A, Counts(0, 2, 2, 0, RUN, 0))
    assert account.power_kw == 300
    ledger.read(A, page(1, 3, 2, power_kw=300), 2)
    assert account.power_kw == 300
    assert not account.way


def test_what_did_not_arrive_takes_its_power_along() -> None:
    """It is the one that was sent last."""
    ledger, account = powered()
    ledger.dispatch(A, 1, 20)
    ledger.dispatch(A, 1, 300)
    ledger.undo(A)
    assert account.power_kw == 20
    ledger.undo(A)
    ledger.undo(A)
    assert account.power_kw == 0


def test_jobs_of_unknown_power_on_their_way_count_as_usual() -> None:
    """Whoever starts anew knows how many wait in the queue, but not what they will draw."""
    ledger = ledger_of()
    account = set_scale(ledger, page(0, power_kw=0), ready=3)
    assert account.power_kw == pytest.approx(3 * USUAL)
    ledger.dispatch(A, 1, 150)
    assert account.power_kw == pytest.approx(3 * USUAL + 150)
    ledger.report(A, Counts(2, 2, 0, 0, RUN, 40))
    assert account.power_kw == pytest.approx(40 + USUAL + 150), "the unknown ones came first"


def test_nothing_is_left_over_when_a_substation_starts_anew() -> None:
    """Its jobs went back to the queue, with others that were known or not: all count as usual."""
    ledger, account = powered()
    ledger.dispatch(A, 1, 150)
    ledger.read(A, page(0, run=RUN + 1, power_kw=0), 2)
    assert account.power_kw == 0
    set_scale(ledger, page(0, run=RUN + 1, power_kw=0), 3, ready=1)
    assert account.power_kw == USUAL


def test_powers_are_kept_while_the_scale_is_not_set() -> None:
    """What has arrived meanwhile may be a job that nobody had counted."""
    ledger = ledger_of()
    ledger.read(A, page(0, power_kw=0), 0)
    account = ledger.accounts[A]
    ledger.dispatch(A, 0, 150)  # sent again
    ledger.report(A, Counts(1, 1, 0, 0, RUN, 22))  # another, of an earlier dispatcher
    assert account.power_kw == 22 + 150
    set_scale(ledger, page(1, 1, 0, power_kw=22), 1, ready=1)
    assert account.power_kw == 22 + 150


def test_a_session_whose_power_nobody_tells_draws_the_usual() -> None:
    """Unknown is never idle; the load alone says that something charges."""
    ledger, account = anchored(load=3, accepted=3)
    assert account.power_kw == pytest.approx(3 * USUAL)
    ledger.dispatch(A, 1, 150)
    ledger.report(A, Counts(4, 4, 0, 0, RUN))
    assert account.power_kw == pytest.approx(4 * USUAL)


def test_a_session_that_only_an_event_tells_of_draws_the_usual() -> None:
    """Where the page tells the power and events do not, a session since the page counts too."""
    ledger, account = powered(power_kw=0)
    ledger.dispatch(A, 1, 22)
    ledger.report(A, Counts(1, 1, 0, 0, RUN))
    assert account.power_kw == USUAL
    ledger.read(A, page(1, 1, 0, power_kw=22), 1)
    assert account.power_kw == 22


def test_without_counters_power_goes_by_the_page_and_what_was_sent_since() -> None:
    """A substation that exports its load and power alone works; each job counts once."""
    ledger = ledger_of()
    account = ledger.accounts[A]
    ledger.read(A, Reading(1, power_kw=50), 1)
    ledger.dispatch(A, 1.2, 22)
    ledger.dispatch(A, 1.6, 11)
    assert account.power_kw == 83
    ledger.read(A, Reading(2, power_kw=72), 1.5)
    assert account.power_kw == 83
    ledger.queued(A, ready=3, consumers=1)
    assert account.power_kw == pytest.approx(83 + 2 * USUAL)


@pytest.mark.parametrize(("rated", "share"), [(None, 0.0), (0.0, inf), (100.0, 0.5)])
def test_a_rating_is_what_power_is_measured_by(rated: float | None, share: float) -> None:
    """Where it is not known power does not weigh; where it is nothing, nothing fits."""
    ledger = ledger_of()
    ledger.read(A, Reading(0, 50, 50, rated), 0)
    account = ledger.accounts[A]
    assert account.rated_power_kw == rated
    assert account.power_share == share
    assert account.utilisation(0) == share
