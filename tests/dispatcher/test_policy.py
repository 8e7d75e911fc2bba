from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decision.ledger import Ledger
from dispatcher.decision.policy import (
    FULL,
    LISTED,
    NOT_NAMED,
    Candidate,
    LeastLoaded,
    candidate,
    record,
    usable,
    why_not,
)
from dispatcher.readings import Reading

POLICY = LeastLoaded()


def seen(name: str, load: float = 0, connectors: float = 10, **more: str) -> Candidate:
    """Make a substation as a decision sees it; ``problem`` says why it cannot be chosen."""
    return Candidate(name, load, connectors, more.get("problem"), load, 0.1, 0)


def choose(*candidates: Candidate, seed: int = 0) -> str:
    """Give the name of the choice."""
    return POLICY.choose(candidates, Random(seed))[0].substation  # noqa: S311


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([seen("a", 1), seen("b", 0), seen("c", 2)], "b"),
        ([seen("a", 4, 10), seen("b", 5, 100)], "b"),
        ([seen("a", 0, 2), seen("b", 1, 10)], "b"),  # 1/2 after it against 2/10
        ([seen("a", 0.5), seen("b", 0.6)], "a"),
        ([seen("a", 9)], "a"),
    ],
)
def test_the_lowest_utilisation_after_placing_wins(
    candidates: list[Candidate], chosen: str
) -> None:
    """Load counts relative to capacity, with the request already in it."""
    assert choose(*candidates) == chosen


def test_the_reason_says_what_decided() -> None:
    """The figure that won is told, and whether it was by lot."""
    one, other = seen("a", 1), seen("b", 3)
    assert POLICY.choose([one, other], Random(0))[1] == (  # noqa: S311
        "lowest utilisation after placing it: 0.2"
    )
    assert POLICY.choose([one, replace(one, substation="b")], Random(0))[1].endswith(  # noqa: S311
        ", by lot among 2"
    )


@pytest.mark.parametrize("tied", [2, 3, 7])
def test_ties_are_fair(tied: int) -> None:
    """Each of the tied wins equally often, wherever it stands in the list; no other ever does."""
    draws = 700 * tied
    heavier = seen("heavier", 5)
    candidates = [heavier, *(seen(f"s{n}", 1) for n in range(tied)), heavier]
    random = Random(7)  # noqa: S311
    wins = Counter(POLICY.choose(candidates, random)[0].substation for _ in range(draws))
    assert len(wins) == tied
    assert "heavier" not in wins
    chi_square = sum((won - 700) ** 2 / 700 for won in wins.values())
    assert chi_square < {2: 10.8, 3: 13.8, 7: 22.5}[tied]  # 1 in 1,000 by chance


CANDIDATE = st.builds(
    Candidate,
    substation=st.text(min_size=1, max_size=3),
    load=st.floats(0, 60),
    connectors=st.integers(1, 50).map(float),
    problem=st.sampled_from([None, None, "stale"]),
    gauge=st.floats(0, 60),
    gauge_age=st.none() | st.floats(0, 10),
    outstanding=st.floats(0, 60),
)
CANDIDATES = st.lists(CANDIDATE, max_size=40, unique_by=lambda each: each.substation)


@given(CANDIDATES, st.lists(st.text(min_size=1, max_size=3), max_size=3), st.randoms())
def test_what_is_chosen_may_be_chosen(
    candidates: list[Candidate], named: list[str], random: Random
) -> None:
    """Neither a full, nor an ineligible, nor a substation that is not named is ever chosen."""
    open_to = usable(candidates, named)
    refused = [each for each in candidates if each not in open_to]
    assert all(why_not(each, named) for each in refused)
    if not open_to:
        return
    chosen, _ = POLICY.choose(open_to, random)
    assert chosen.problem is None
    assert chosen.load + 1 <= chosen.connectors * (1 + 1e-9)
    assert not named or chosen.substation in named
    assert all(chosen.utilisation_after <= each.utilisation_after for each in open_to)


@pytest.mark.parametrize(
    ("one", "named", "why"),
    [
        (seen("a", 9), [], None),
        (seen("a", 9.5), [], FULL),
        (seen("a", 10), [], FULL),
        (seen("a", 0, 10, problem="stale"), [], "stale"),
        (seen("a", 10, 10, problem="stale"), [], "stale"),
        (seen("a"), ["b"], NOT_NAMED),
        (seen("a"), ["b", "a"], None),
    ],
)
def test_why_a_substation_cannot_be_chosen(
    one: Candidate, named: list[str], why: str | None
) -> None:
    """Each reason has its words; the last connector can still be had."""
    assert why_not(one, named) == why


def place(ledger: Ledger, requests: int, random: Random, now: float = 1) -> Counter[str]:
    """Place requests with no new word of any substation; gives how many went where."""
    placed: Counter[str] = Counter()
    for _ in range(requests):
        candidates = [candidate(each, ledger, now) for each in ledger.accounts.values()]
        if not (open_to := usable(candidates, ())):
            break
        chosen = POLICY.choose(open_to, random)[0].substation
        ledger.dispatch(chosen, now)
        placed[chosen] += 1
    return placed


def ledger_of(connectors: Sequence[int], load: Sequence[int] | None = None) -> Ledger:
    """Make a ledger of substations that export only their load, just read."""
    ledger = Ledger(stale_after=2, default_connectors=50)
    ledger.keep({f"s{number}": count for number, count in enumerate(connectors)})
    for number in range(len(connectors)):
        ledger.read(f"s{number}", Reading(load[number] if load else 0), 1)
    return ledger


@pytest.mark.parametrize("seed", range(5))
def test_a_burst_within_one_scrape_period_spreads_evenly(seed: int) -> None:
    """300 requests with no new reading are 100 each, and at no time more than one apart."""
    random = Random(seed)  # noqa: S311
    ledger = ledger_of([100] * 3)
    total: Counter[str] = Counter()
    for _ in range(300):
        total += place(ledger, 1, random)
        assert max(total.values()) - min(total[f"s{n}"] for n in range(3)) <= 1
    assert set(total.values()) == {100}
    assert place(ledger, 1, random) == {}, "all are full: the request waits"


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=8),
    st.integers(0, 120),
    st.randoms(use_true_random=False),
)
def test_unequal_substations_fill_in_proportion(
    connectors: list[int], requests: int, random: Random
) -> None:
    """At any filling, no substation could give a session to another and both be better for it."""
    placed = place(ledger_of(connectors), requests, random)
    assert sum(placed.values()) == min(requests, sum(connectors))
    filling = [(placed[f"s{n}"], count) for n, count in enumerate(connectors)]
    heaviest = max(sessions / count for sessions, count in filling)
    assert all((sessions + 1) / count >= heaviest - 1e-9 for sessions, count in filling)


def test_substations_that_begin_uneven_are_evened_out() -> None:
    """What is lighter is filled first."""
    assert place(ledger_of([10, 10, 10], [6, 0, 3]), 9, Random(0)) == {"s1": 6, "s2": 3}  # noqa: S311


@pytest.mark.parametrize(("count", "listed"), [(3, 3), (20, 20), (21, 20), (500, 20)])
def test_the_record_lists_the_lightest_and_the_chosen(count: int, listed: int) -> None:
    """A decision among very many is explained by the 20 lightest, and never without the chosen."""
    candidates = [seen(f"s{n}", n, 1000) for n in range(count)]
    kept = record("least-loaded", "why", candidates, candidates[0], ())
    names = [each["substation"] for each in kept["candidates"]]
    assert names == [f"s{n}" for n in range(listed)]
    assert (kept["policy"], kept["reason"]) == ("least-loaded", "why")
    heaviest = record("least-loaded", "why", candidates, candidates[-1], ())
    names = [each["substation"] for each in heaviest["candidates"]]
    assert names[-1] == f"s{count - 1}"
    assert len(names) == len(set(names)) <= LISTED + 1


def test_the_record_says_of_each_candidate_what_was_known_and_why_not() -> None:
    """Gauge, its age, what was outstanding, utilisation, and why one was not eligible."""
    chosen = Candidate("a", 3, 10, None, 2, 0.12345, 1)
    others = [Candidate("b", 0, 10, "stale", 0, None, 0), seen("c"), seen("d", 10)]
    kept = record("p", "r", [chosen, *others], chosen, ["a", "b", "d"])
    by_name = {each["substation"]: each for each in kept["candidates"]}
    assert by_name["a"] == {
        "substation": "a",
        "load": 3,
        "connectors": 10,
        "utilisation": 0.3,
        "gauge": 2,
        "gauge_age_seconds": 0.123,
        "outstanding": 1,
        "eligible": True,
        "reason": None,
    }
    assert {name: each["reason"] for name, each in by_name.items()} == {
        "a": None,
        "b": "stale",
        "c": NOT_NAMED,
        "d": FULL,
    }
    assert by_name["b"]["gauge_age_seconds"] is None
