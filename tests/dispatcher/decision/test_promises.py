"""What holds for every decision, in any state and after any history."""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.decision.fleet import Fleet
from dispatcher.decision.ledger import Ledger
from dispatcher.decision.policy import POLICIES, LeastLoaded, policy
from tests.dispatcher.decision import oracle
from tests.dispatcher.decision.fleets import NOW, Row, after, fleet_of
from tests.dispatcher.decision.histories import (
    CHANGES,
    NAMED,
    POWERS,
    SLOW_START,
    TABLES,
    Change,
    World,
)

RANDOMS = st.randoms(use_true_random=False)


def known(ledger: Ledger) -> dict[str, Any]:
    """Return all that a ledger knows, apart from its note that a slow start is over."""
    accounts = deepcopy(ledger.accounts)
    for each in accounts.values():
        each.health.back_at = None
    return accounts


@given(TABLES, POWERS, NAMED, RANDOMS)
def test_the_lightest_of_all_that_may_be_used_is_chosen(
    rows: list[Row], requested: float, named: list[str], random: Random
) -> None:
    """By arithmetic on each account alone; if none is chosen, none has capacity."""
    fleet = fleet_of(*rows)
    found = fleet.open_to(requested, named, NOW)
    accounts, blind = oracle.usable(fleet.ledger, named, NOW)
    room = [each for each in accounts if oracle.has_room(each, requested, NOW, 0)]
    if found is None:
        assert room == []
        return
    assert found.blind == blind
    place, _ = LeastLoaded().choose(found, random)
    chosen = next(each for each in room if each.substation == found.name(place))
    lowest = min(oracle.share(each, requested, NOW) for each in room)
    assert oracle.share(chosen, requested, NOW) <= lowest + oracle.NEARLY


@pytest.mark.parametrize("name", POLICIES)
@given(TABLES, POWERS, NAMED, RANDOMS)
def test_choosing_changes_nothing_in_the_ledger(
    name: str, rows: list[Row], requested: float, named: list[str], random: Random
) -> None:
    """A decision only reads; the ledger changes when the job is dispatched."""
    fleet = fleet_of(*rows, slow_start=SLOW_START)
    before = known(fleet.ledger)
    if (found := fleet.open_to(requested, named, NOW, ahead=True)) is not None:
        policy(name).choose(found, random)
    fleet.lightest(20, named, NOW)
    fleet.largest_rating(named, NOW)
    assert known(fleet.ledger) == before


@settings(max_examples=400)
@given(CHANGES, POWERS, NAMED)
def test_the_rows_follow_whatever_happens(
    changes: list[Change], requested: float, named: list[str]
) -> None:
    """After each change and passing of time, the candidates are those that the accounts imply."""
    world = World()
    for change in changes:
        change(world)
        fleet, now = world.fleet, world.now
        found = after(fleet.open_to(requested, named, now))
        assert found.keys() == oracle.open_names(fleet, requested, named, now, SLOW_START)
        for name, value in found.items():
            expected = oracle.share(fleet.ledger.accounts[name], requested, now)
            assert value == pytest.approx(expected, abs=oracle.NEARLY)


@pytest.mark.parametrize("name", POLICIES)
@given(CHANGES, POWERS, RANDOMS)
def test_no_policy_chooses_what_may_not_be_used(
    name: str, changes: list[Change], requested: float, random: Random
) -> None:
    """Unknown is never idle: an ineligible one is chosen only if no page at all can be read."""
    world, chooser = World(), policy(name)
    for change in changes:
        change(world)
        found = world.fleet.open_to(requested, (), world.now, ahead=bool(len(changes) % 2))
        if found is None:
            continue
        place, reason = chooser.choose(found, random)
        chosen, ledger = found.name(place), world.fleet.ledger
        assert reason
        assert ledger.barred(ledger.accounts[chosen], world.now) is None
        readable = any(ledger.readable(world.now).values())
        assert found.blind != readable
        if readable:
            assert ledger.ineligible(ledger.accounts[chosen], world.now) is None


def fill(fleet: Fleet, requests: int, random: Random) -> dict[str, int]:
    """Place requests without any new reading; return how many went where."""
    chooser, sent = LeastLoaded(), dict.fromkeys(fleet.ledger.accounts, 0)
    for _ in range(requests):
        if (found := fleet.open_to(7.4, (), NOW)) is None:
            break
        chosen = found.name(chooser.choose(found, random)[0])
        fleet.ledger.dispatch(chosen, NOW)
        sent[chosen] += 1
    return sent


@pytest.mark.parametrize("seed", range(5))
def test_a_burst_within_one_scrape_period_spreads_evenly(seed: int) -> None:
    """300 requests without a new reading are 100 each, and never more than one apart."""
    random = Random(seed)  # noqa: S311
    fleet = fleet_of(*(Row(name, places=100) for name in "abc"))
    sent = dict.fromkeys("abc", 0)
    for _ in range(300):
        for name, count in fill(fleet, 1, random).items():
            sent[name] += count
        assert max(sent.values()) - min(sent.values()) <= 1
    assert sent == {"a": 100, "b": 100, "c": 100}
    assert sum(fill(fleet, 1, random).values()) == 0, "all are full: the request waits"


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 120), RANDOMS)
def test_unequal_substations_fill_in_proportion(
    places: list[int], requests: int, random: Random
) -> None:
    """At any load, moving a session to another substation would not lower the highest load."""
    sent = fill(fleet_of(*(Row(f"s{n}", places=count) for n, count in enumerate(places))),
                requests, random)  # fmt: skip
    assert sum(sent.values()) == min(requests, sum(places))
    filling = list(zip(sent.values(), places, strict=True))
    heaviest = max(sessions / count for sessions, count in filling)
    assert all((sessions + 1) / count >= heaviest - 1e-9 for sessions, count in filling)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 120), RANDOMS)
def test_unequal_transformers_fill_in_proportion(
    fits: list[int], requests: int, random: Random
) -> None:
    """The same for power, if that is the limit: none is ever above its rating."""
    rows = [Row(f"s{n}", places=1000, rated=7.4 * count) for n, count in enumerate(fits)]
    sent = fill(fleet_of(*rows), requests, random)
    assert sum(sent.values()) == min(requests, sum(fits))
    filling = list(zip(sent.values(), fits, strict=True))
    heaviest = max(sessions / count for sessions, count in filling)
    assert all((sessions + 1) / count >= heaviest - 1e-6 for sessions, count in filling)


def test_substations_that_begin_uneven_are_evened_out() -> None:
    """The lightest are filled first."""
    fleet = fleet_of(Row("a", 6), Row("b", 0), Row("c", 3))
    assert fill(fleet, 9, Random(0)) == {"a": 0, "b": 6, "c": 3}  # noqa: S311
