"""The policies that are chosen by name: what each looks at, and what each may never do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decision.policy import DEFAULT, POLICIES, Candidate, policy, usable
from grid.errors import ConfigurationError

NAMES = ["least-loaded", "least-gauge", "power-of-two", "round-robin", "random"]


def seen(name: str, gauge: float, load: float = 0, connectors: float = 10) -> Candidate:
    """Make a substation whose gauge and load need not agree."""
    return Candidate(name, load, connectors, None, gauge, 0.1, 0)


def wins(name: str, open_to: list[Candidate], draws: int) -> Counter[str]:
    """Tell how often each substation is chosen."""
    chooser, random = policy(name), Random(3)  # noqa: S311
    return Counter(chooser.choose(open_to, random)[0].substation for _ in range(draws))


def test_every_policy_is_had_by_its_name() -> None:
    """The names are those of the documentation, and the default is one of them."""
    assert list(POLICIES) == NAMES
    assert DEFAULT == "least-loaded"
    assert all(policy(name).name == name for name in NAMES)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    """The error names the value and every policy."""
    with pytest.raises(ConfigurationError) as error:
        policy("lightest")
    assert all(name in str(error.value) for name in ["'lightest'", *NAMES])


OPEN = [seen("a", 3, 0), seen("b", 1, 9), seen("c", 2, 5)]


@pytest.mark.parametrize(
    ("name", "chosen", "reason"),
    [
        ("least-loaded", "a", "lowest utilisation after placing it: 0.1"),
        ("least-gauge", "b", "lowest gauge: 1"),
        ("round-robin", "a", "the first"),
    ],
)
def test_each_looks_at_its_own_facts(name: str, chosen: str, reason: str) -> None:
    """Only least-loaded knows the ledger's load; least-gauge knows the gauge alone."""
    found, why = policy(name).choose(OPEN, Random(0))  # noqa: S311
    assert (found.substation, why) == (chosen, reason)


@pytest.mark.parametrize("name", ["least-gauge", "power-of-two", "round-robin", "random"])
@given(loads=st.lists(st.floats(0, 60), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_those_it_is_compared_with_do_not_see_the_ledger(
    name: str, loads: list[float], seed: int
) -> None:
    """Whatever the ledger says, their choice is the same."""
    others = [
        replace(each, load=load, outstanding=load) for each, load in zip(OPEN, loads, strict=True)
    ]
    one, _ = policy(name).choose(OPEN, Random(seed))  # noqa: S311
    other, _ = policy(name).choose(others, Random(seed))  # noqa: S311
    assert one.substation == other.substation


def test_the_lower_gauge_of_two_wins_and_the_highest_never() -> None:
    """Of three substations the lowest gauge is drawn, and so wins, two times in three."""
    won = wins("power-of-two", OPEN, 3000)
    assert won.keys() == {"b", "c"}
    assert won["b"] == pytest.approx(2000, abs=100)
    reason = policy("power-of-two").choose(OPEN[:2], Random(0))[1]  # noqa: S311
    assert reason in {
        "lower gauge of two drawn: a (3) and b (1)",
        "lower gauge of two drawn: b (1) and a (3)",
    }


@pytest.mark.parametrize("name", ["least-loaded", "least-gauge", "power-of-two", "random"])
@pytest.mark.parametrize("tied", [2, 3, 7])
def test_ties_are_fair(name: str, tied: int) -> None:
    """Each of the tied wins equally often, wherever it stands in the list."""
    won = wins(name, [seen(f"s{number}", 4, 4) for number in range(tied)], 700 * tied)
    chi_square = sum((won[f"s{number}"] - 700) ** 2 / 700 for number in range(tied))
    assert chi_square < {2: 10.8, 3: 13.8, 7: 22.5}[tied]  # 1 in 1,000 by chance


def test_round_robin_takes_turns_in_the_order_of_the_names() -> None:
    """The order of the list does not matter; one that cannot be chosen loses its turn only."""
    chooser, random = policy("round-robin"), Random(0)  # noqa: S311
    a, b, c = OPEN
    turns = [[c, a, b], [a, b, c], [a, b], [c, b], [b, c], [a, c], [c, b, a]]
    found = [chooser.choose(open_to, random)[0].substation for open_to in turns]
    assert found == ["a", "b", "a", "b", "c", "a", "b"]


@given(st.integers(1, 9), st.integers(0, 60))
def test_round_robin_gives_each_its_share(count: int, requests: int) -> None:
    """With the same substations open, no two differ by more than one."""
    won = wins("round-robin", [seen(f"s{number}", 0) for number in range(count)], requests)
    assert sum(won.values()) == requests
    assert max(won.values(), default=0) - min(won[f"s{n}"] for n in range(count)) <= 1


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        substation=st.text(min_size=1, max_size=3),
        load=st.floats(0, 60),
        connectors=st.integers(1, 50).map(float),
        problem=st.sampled_from([None, None, "stale"]),
        gauge=st.floats(0, 60),
        gauge_age=st.none() | st.floats(0, 10),
        outstanding=st.floats(0, 60),
    ),
    max_size=20,
    unique_by=lambda each: each.substation,
)


@pytest.mark.parametrize("name", NAMES)
@given(turns=st.lists(CANDIDATES, max_size=4), seed=st.integers(0, 99))
def test_no_policy_chooses_a_full_or_ineligible_substation(
    name: str, turns: list[list[Candidate]], seed: int
) -> None:
    """Every choice is one of those open to it, and the same for the same seed and past."""
    one, other = policy(name), policy(name)
    first, second = Random(seed), Random(seed)  # noqa: S311
    for candidates in turns:
        if open_to := usable(candidates, ()):
            chosen, reason = one.choose(open_to, first)
            assert chosen in open_to
            assert chosen.problem is None
            assert chosen.load + 1 <= chosen.connectors * (1 + 1e-9)
            assert reason
            assert other.choose(open_to, second)[0] == chosen
