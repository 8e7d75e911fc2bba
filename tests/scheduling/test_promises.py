"""What holds for every decision, in any state and after any history."""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_test.simulate.policies import POLICIES
from scheduling.candidates import CandidateTable
from scheduling.load_tracker import LoadTracker
from scheduling.policies import LeastLoaded
from tests.examples import examples
from tests.scheduling import oracle
from tests.scheduling.histories import (
    CHANGES,
    NAMED,
    POWERS,
    SLOW_START,
    TABLES,
    Change,
    after_each,
)
from tests.scheduling.tables import NOW, Row, after, table_of

RANDOMS = st.randoms(use_true_random=False)


def known(tracker: LoadTracker) -> dict[str, Any]:
    """Return all that a load tracker knows."""
    return deepcopy(tracker.substations)


@given(TABLES, POWERS, NAMED, RANDOMS)
def test_least_loaded_always_picks_the_least_utilised_candidate(
    rows: list[Row], requested: float, allowed: list[str], random: Random
) -> None:
    """By arithmetic on each substation's state alone; if none is chosen, none has capacity."""
    table = table_of(*rows)
    found = table.candidates_for(requested, allowed, NOW)
    substations, blind = oracle.usable(table.tracker, allowed, NOW)
    room = [each for each in substations if oracle.has_room(each, requested, NOW, 0)]
    if found is None:
        assert room == []
        return
    assert found.blind == blind
    place, _ = LeastLoaded().pick(found, random)
    chosen = next(each for each in room if each.substation == found.name(place))
    lowest = min(oracle.share(each, requested, NOW) for each in room)
    assert oracle.share(chosen, requested, NOW) <= lowest + oracle.NEARLY


@pytest.mark.parametrize("name", POLICIES)
@given(TABLES, POWERS, NAMED, RANDOMS)
def test_decision_does_not_change_the_load_tracker(
    name: str, rows: list[Row], requested: float, allowed: list[str], random: Random
) -> None:
    """A decision only reads; the load tracker changes when the job is dispatched."""
    table = table_of(*rows, slow_start=SLOW_START)
    before = known(table.tracker)
    if (found := table.candidates_for(requested, allowed, NOW, ahead=True)) is not None:
        POLICIES[name]().pick(found, random)
    table.least_utilised(20, allowed, NOW)
    table.largest_rating(allowed, NOW)
    assert known(table.tracker) == before


@examples(400)
@given(CHANGES, POWERS, NAMED)
def test_candidate_table_follows_any_history(
    changes: list[Change], requested: float, allowed: list[str]
) -> None:
    """After each change and passing of time, the candidates are those that the states imply."""
    for world in after_each(changes):
        table, now = world.table, world.now
        found = after(table.candidates_for(requested, allowed, now))
        assert found.keys() == oracle.open_names(table, requested, allowed, now, SLOW_START)
        for name, value in found.items():
            expected = oracle.share(table.tracker.substations[name], requested, now)
            assert value == pytest.approx(expected, abs=oracle.NEARLY)


@pytest.mark.parametrize("name", POLICIES)
@given(CHANGES, POWERS, RANDOMS)
def test_no_policy_picks_an_ineligible_substation(
    name: str, changes: list[Change], requested: float, random: Random
) -> None:
    """Unknown is never idle: an ineligible one is chosen only if no page at all can be read."""
    chooser = POLICIES[name]()
    for world in after_each(changes):
        found = world.table.candidates_for(requested, (), world.now, ahead=bool(len(changes) % 2))
        if found is None:
            continue
        place, reason = chooser.pick(found, random)
        chosen, tracker = found.name(place), world.table.tracker
        assert reason
        assert tracker.blocked_reason(tracker.substations[chosen], world.now) is None
        readable = any(tracker.readable(world.now).values())
        assert found.blind != readable
        if readable:
            assert tracker.ineligible_reason(tracker.substations[chosen], world.now) is None


def fill(table: CandidateTable, requests: int, random: Random) -> dict[str, int]:
    """Place requests without any new reading; return how many went where."""
    chooser, sent = LeastLoaded(), dict.fromkeys(table.tracker.substations, 0)
    for _ in range(requests):
        if (found := table.candidates_for(7.4, (), NOW)) is None:
            break
        chosen = found.name(chooser.pick(found, random)[0])
        table.tracker.dispatch(chosen, NOW)
        sent[chosen] += 1
    return sent


@pytest.mark.parametrize("seed", range(5))
def test_burst_within_one_scrape_interval_spreads_evenly(seed: int) -> None:
    """300 requests without a new reading are 100 each, and never more than one apart."""
    random = Random(seed)  # noqa: S311
    table = table_of(*(Row(name, places=100) for name in "abc"))
    sent = dict.fromkeys("abc", 0)
    for _ in range(300):
        for name, count in fill(table, 1, random).items():
            sent[name] += count
        assert max(sent.values()) - min(sent.values()) <= 1
    assert sent == {"a": 100, "b": 100, "c": 100}
    assert sum(fill(table, 1, random).values()) == 0, "all are full: the request waits"


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 120), RANDOMS)
def test_unequal_substations_fill_in_proportion(
    places: list[int], requests: int, random: Random
) -> None:
    """At any load, moving a session to another substation would not lower the highest load."""
    sent = fill(table_of(*(Row(f"s{n}", places=count) for n, count in enumerate(places))),
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
    sent = fill(table_of(*rows), requests, random)
    assert sum(sent.values()) == min(requests, sum(fits))
    filling = list(zip(sent.values(), fits, strict=True))
    heaviest = max(sessions / count for sessions, count in filling)
    assert all((sessions + 1) / count >= heaviest - 1e-6 for sessions, count in filling)


def test_substations_that_start_uneven_are_evened_out() -> None:
    """The least utilised are filled first."""
    table = table_of(Row("a", 6), Row("b", 0), Row("c", 3))
    assert fill(table, 9, Random(0)) == {"a": 0, "b": 6, "c": 3}  # noqa: S311
