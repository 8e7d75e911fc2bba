"""What keeps jobs from a substation whatever its page says: operators, its queue, ejection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dispatcher.decision.health import FREE_FALLS
from dispatcher.decision.ledger import DRAINED, NO_CONSUMER, Ledger
from dispatcher.readings import Reading
from grid.controls import Availability, Control
from grid.events import Counts
from tests.dispatcher.decision.ledgers import RUN, A, anchored, ledger_of, page, set_scale

DRAINING = Control(A, Availability.DRAINING, version=1)
PLAIN = Reading(0, 50)  # without counters: such a substation can be chosen at once


def fail_and_return(ledger: Ledger, name: str, now: float) -> None:
    """Have a substation's queue refuse a job, and its page be read again."""
    ledger.refuse(name, "its queue does not take jobs", now)
    ledger.read(name, PLAIN, now)


def test_a_queue_that_refuses_jobs_bars_until_the_next_page() -> None:
    """The reason is shown; the page is sound all the same, and the next one ends it."""
    ledger, account = anchored()
    ledger.refuse(A, "its queue does not take jobs: nacked", 0.5)
    assert ledger.ineligible(account, 0.5) == "its queue does not take jobs: nacked"
    assert ledger.readable(0.5) == {A: True}
    ledger.read(A, page(0), 1)
    assert ledger.ineligible(account, 1) is None


@pytest.mark.parametrize(("consumers", "why"), [(0, NO_CONSUMER), (1, None), (7, None)])
def test_a_queue_without_a_consumer_bars(consumers: int, why: str | None) -> None:
    """A page may be there though nobody takes the jobs."""
    ledger, account = anchored()
    assert ledger.ineligible(account, 0) is None, "whether anybody does is not known yet"
    ledger.queued(A, 0, consumers)
    assert ledger.ineligible(account, 0) == why
    ledger.read(A, page(0), 1)
    assert ledger.ineligible(account, 1) == why, "a page says nothing of its queue"


def test_an_operator_drains_a_substation_and_takes_that_back() -> None:
    """While it is drained nothing is sent; what it has still counts."""
    ledger, account = anchored(load=2, accepted=2)
    ledger.control(A, DRAINING)
    assert (ledger.ineligible(account, 0), account.load) == (DRAINED, 2)
    ledger.control(A, Control(A, version=2))
    assert ledger.ineligible(account, 0) is None


@pytest.mark.parametrize(("limit", "places"), [(None, 50), (8, 8), (80, 50)])
def test_an_operator_s_limit_lowers_the_places(limit: int | None, places: float) -> None:
    """There are as many places as connectors, or fewer; the utilisation goes by places."""
    ledger, account = anchored(load=4, accepted=4)
    ledger.control(A, Control(A, limit=limit, version=1))
    assert (account.connectors, account.places) == (50, places)
    assert account.utilisation(0) == 4 / places
    ledger.control(A, Control(A, version=2))
    assert account.places == 50


def test_what_an_operator_set_holds_before_it_is_known_and_when_it_is_back() -> None:
    """The target file and what operators set are told in any order."""
    ledger = ledger_of("b")
    ledger.control(A, Control(A, Availability.DRAINING, 8, 1))
    ledger.keep({"b": None, A: None})
    assert (ledger.accounts[A].drained, ledger.accounts[A].places) == (True, 8)
    assert (ledger.accounts["b"].drained, ledger.accounts["b"].limit) == (False, None)
    ledger.keep({"b": None})
    ledger.keep({"b": None, A: None})
    account = set_scale(ledger, page(0))
    assert (ledger.ineligible(account, 0), account.limit) == (DRAINED, 8)
    ledger.keep({"b": None})
    ledger.control(A, Control(A, version=2))
    ledger.keep({"b": None, A: None})
    assert (ledger.accounts[A].drained, ledger.accounts[A].limit) == (False, None)


def test_one_that_fails_again_and_again_is_ejected_with_the_reason() -> None:
    """Its page is sound and its queue takes jobs, but not for long."""
    ledger = ledger_of(A, "b")
    account = ledger.accounts[A]
    for second in range(FREE_FALLS + 1):
        assert not account.health.ejected(second)
        ledger.read("b", PLAIN, second)
        fail_and_return(ledger, A, second + 0.5)
    assert ledger.ineligible(account, 4) == "ejected for another 4 s: it failed again and again"
    assert ledger.readable(4) == {A: True, "b": True}
    ledger.read(A, PLAIN, 9)
    assert ledger.ineligible(account, 9) is None


@pytest.mark.parametrize(
    ("fail", "drained", "ejected"),
    [
        (["a"], [], ["a"]),
        (["a", "b"], [], ["a", "b"]),  # c and d have half of all connectors
        (["a", "b", "c"], [], ["a", "b"]),
        (["a", "b", "c", "d"], [], ["a", "b"]),
        (["a", "b"], ["d"], ["a"]),  # c alone has a third of what is in operation
        (["a"], ["b", "c", "d"], []),
    ],
)
def test_where_everything_fails_nothing_is_left_out(
    fail: list[str], drained: list[str], ejected: list[str]
) -> None:
    """One is ejected only while the others that can be chosen have half of all connectors."""
    ledger = ledger_of("a", "b", "c", "d")
    for name in ledger.accounts:
        ledger.read(name, PLAIN, 0)
    for name in drained:
        ledger.control(name, Control(name, Availability.DRAINING, version=1))
    for name in fail:
        for _ in range(FREE_FALLS + 1):
            fail_and_return(ledger, name, 0)
    assert [name for name, each in ledger.accounts.items() if each.health.ejected(0)] == ejected


def test_an_ejection_ends_when_the_others_fail() -> None:
    """It is needed then; it ramps up, and failing once more counts as before."""
    ledger = ledger_of(A, "b")
    ledger.read("b", PLAIN, 0)
    for _ in range(FREE_FALLS + 1):
        fail_and_return(ledger, A, 0)
    account = ledger.accounts[A]
    assert account.health.ejected(1)
    ledger.refuse("b", "its queue does not take jobs", 1)
    ledger.read(A, PLAIN, 1)
    assert ledger.ineligible(account, 1) is None
    assert account.health.ramp(50, 1, 10) == 1
    ledger.read("b", PLAIN, 2)
    fail_and_return(ledger, A, 2)
    assert account.health.ejected_until == 12


def test_a_restart_is_a_failure_and_a_ramp() -> None:
    """Counters of another run show a restart that no page was missed for."""
    ledger, account = anchored(load=5, accepted=5)
    ledger.read(A, page(2, 2, 0, run=1001), 1)
    assert account.health.falls == 1
    assert account.health.ramp(50, 1, 10) == 3


def test_a_page_that_is_missed_is_no_failure_yet() -> None:
    """Only one that could not be read for as long as a gauge is trusted has failed."""
    ledger, account = anchored()
    ledger.fail(A, "late", 1)
    ledger.fail(A, "late", 2.9)
    assert account.health.fallen_at is None
    ledger.read(A, page(0), 3)
    ledger.fail(A, "late", 4)
    ledger.fail(A, "late", 6)
    ledger.fail(A, "late", 60)
    ledger.read(A, page(0, run=1001), 61)
    assert account.health.falls == 1, "it failed, stayed away and was another: all of that is one"


def test_another_is_one_that_may_be_sent_to() -> None:
    """Jobs are taken back from a substation only if there is somewhere else for them."""
    ledger = ledger_of(A, "b")
    set_scale(ledger, page(0))
    assert ledger.another("b", 0)
    assert not ledger.another(A, 0), "of b nothing is known"
    assert not ledger.another("b", 3), "and of a no more"


def test_each_change_is_told_once() -> None:
    """What follows from an account is worked out anew only if it has changed."""
    ledger = ledger_of(A, "b")
    a, b = ledger.accounts[A], ledger.accounts["b"]
    assert ledger.take_changed() == [a, b]
    assert ledger.take_changed() == []
    steps: list[Callable[[], object]] = [
        lambda: ledger.read(A, page(0), 0),
        lambda: ledger.report(A, Counts(1, 1, 0, 0, RUN)),
        lambda: ledger.fail(A, "late", 0),
        lambda: ledger.refuse(A, "full", 0),
        lambda: ledger.control(A, DRAINING),
        lambda: ledger.dispatch(A, 0),
        lambda: ledger.undo(A),
        lambda: ledger.queued(A, 0, 1),
        lambda: ledger.let_go(A),
        lambda: ledger.touch(a),
    ]
    for step in steps:
        step()
        assert ledger.take_changed() == [a]
    ledger.keep({A: None})
    assert ledger.take_changed() == [b, a], "one that is gone has changed too"
    ledger.keep({})
    assert ledger.take_changed() == [a]
