from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_test.simulate.policies import POLICIES
from scheduling.candidates import Candidates
from scheduling.policies import DEFAULT, LeastLoaded
from tests.scheduling.tables import NOW, Row, table_of

NAMES = ["least-loaded", "most-headroom", "least-gauge", "power-of-two", "round-robin", "random"]

# gauge, load and power left each have another order
THREE = (
    Row("a", 3, places=100, rated=100, power=50),
    Row("b", 1, places=10, rated=400, power=50, in_flight_kw=(7,) * 6),
    Row("c", 2, places=10, rated=100, power=10, in_flight_kw=(7,) * 2),
)


def open_of(*rows: Row) -> Candidates:
    """Return the candidates of a table for a request of 7 kW."""
    found = table_of(*rows).candidates_for(7, (), NOW)
    assert found is not None
    return found


def choose(name: str, candidates: Candidates, seed: int = 0) -> tuple[str, str]:
    """Return the name of the substation that a policy chooses, and the reason."""
    place, reason = POLICIES[name]().pick(candidates, Random(seed))  # noqa: S311
    return candidates.name(place), reason


def wins(name: str, candidates: Candidates, draws: int) -> Counter[str]:
    """Return how often each substation is chosen."""
    chooser, random = POLICIES[name](), Random(3)  # noqa: S311
    return Counter(candidates.name(chooser.pick(candidates, random)[0]) for _ in range(draws))


def test_policies_are_found_by_their_documented_names() -> None:
    """The names are those of the documentation, and the default is one of them."""
    assert list(POLICIES) == NAMES
    assert DEFAULT == "least-loaded"
    assert all(POLICIES[name]().name == name for name in NAMES)


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ((Row("a", 1), Row("b", 0), Row("c", 2)), "b"),
        ((Row("a", 4, places=10), Row("b", 5, places=100)), "b"),
        ((Row("a", 0, places=2), Row("b", 1, places=10)), "b"),  # 1/2 after it against 2/10
        ((Row("a", 0.5), Row("b", 0.6)), "a"),
        ((Row("a", 9), Row("b", 0, closed="drained")), "a"),
        ((Row("a", 0, in_flight_kw=(7,)), Row("b", 0)), "b"),
        ((Row("a", 0, rated=20), Row("b", 2)), "b"),  # 7/20 after it against 3/10
        ((Row("a", 0, rated=25), Row("b", 2)), "a"),
        ((Row("a", 0, rated=100, power=0, background=30), Row("b", 2)), "b"),
        ((Row("a", 0, limit=2), Row("b", 3)), "b"),
    ],
)
def test_least_loaded_picks_the_lowest_utilisation_after_placing(
    rows: tuple[Row, ...], chosen: str
) -> None:
    """Sessions relative to connectors or limit, power relative to the rating, with the request."""
    assert choose("least-loaded", open_of(*rows))[0] == chosen


@pytest.mark.parametrize(
    ("name", "chosen", "reason"),
    [
        ("least-loaded", "c", "lowest utilisation after placing it: 0.5"),
        ("most-headroom", "b", "most headroom: 308 kW"),
        ("least-gauge", "b", "lowest gauge: 1"),
        ("round-robin", "a", "the first"),
    ],
)
def test_policies_use_only_their_own_figures(name: str, chosen: str, reason: str) -> None:
    """The first two use the load tracker's figures, least-gauge only the gauge."""
    assert choose(name, open_of(*THREE)) == (chosen, reason)


def test_policy_reason_says_among_how_many_it_was_drawn() -> None:
    """And among how many; so does the policy that only draws."""
    tied = open_of(Row("a", 1), Row("b", 1), Row("c", 2))
    assert choose("least-loaded", tied)[1] == (
        "lowest utilisation after placing it: 0.2, drawn among 2"
    )
    assert choose("random", tied)[1] == "drawn among 3"


def test_most_headroom_treats_an_unknown_rating_as_no_headroom() -> None:
    """It is chosen only if none has a rating, and then at random."""
    assert choose("most-headroom", open_of(Row("a"), Row("b", 9, rated=80)))[0] == "b"
    assert wins("most-headroom", open_of(Row("a"), Row("b", 9)), 50).keys() == {"a", "b"}


@pytest.mark.parametrize("name", ["least-gauge", "power-of-two", "round-robin", "random"])
@given(loads=st.lists(st.integers(0, 30), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_baseline_policies_ignore_jobs_in_flight(name: str, loads: list[int], seed: int) -> None:
    """Their choice does not depend on jobs in flight."""
    gauges = [("a", 3.0), ("b", 1.0), ("c", 2.0)]
    bare = open_of(*(Row(each, gauge, 100) for each, gauge in gauges))
    sent = open_of(
        *(
            Row(each, gauge, 100, in_flight_kw=(7,) * load)
            for (each, gauge), load in zip(gauges, loads, strict=True)
        )
    )
    assert choose(name, bare, seed) == choose(name, sent, seed)


def test_power_of_two_picks_the_lower_gauge_of_two() -> None:
    """Of three substations the lowest gauge is drawn, and so wins, two times in three."""
    won = wins("power-of-two", open_of(*THREE), 3000)
    assert won.keys() == {"b", "c"}
    assert won["b"] == pytest.approx(2000, abs=100)
    assert choose("power-of-two", open_of(*THREE[:2]))[1] in {
        "lower gauge of two drawn: a (3) and b (1)",
        "lower gauge of two drawn: b (1) and a (3)",
    }


def test_power_of_two_works_with_one_candidate() -> None:
    """If there is only one, it is chosen."""
    assert choose("power-of-two", open_of(Row("a", 4))) == ("a", "lower gauge of two drawn: a (4)")


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"round-robin"}))
@pytest.mark.parametrize("tied", [2, 3, 7])
def test_policy_ties_are_drawn_fairly(name: str, tied: int) -> None:
    """Each tied substation is chosen equally often, wherever it is among the heavier."""
    heavier: tuple[Row, ...] = ()
    if name not in {"power-of-two", "random"}:
        heavier = (Row("first", 5, rated=40, power=30), Row("z", 5, rated=40, power=30))
    rows = (Row(f"s{number}", 4, rated=400, power=10) for number in range(tied))
    won = wins(name, open_of(*heavier, *rows), 700 * tied)
    assert len(won) == tied
    chi_square = sum((won[f"s{number}"] - 700) ** 2 / 700 for number in range(tied))
    assert chi_square < {2: 10.8, 3: 13.8, 7: 22.5}[tied]  # exceeded by chance once in 1,000


class Loaded(Random):
    """A random generator that always draws the same number."""

    def __init__(self, drawn: int) -> None:
        super().__init__()
        self.drawn = drawn
        self.among: list[int] = []

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:  # noqa: ARG002
        """Return that number, and record the size of the range."""
        self.among.append(start)
        return self.drawn


def test_policy_draws_once_and_only_among_the_tied() -> None:
    """Each draw is one of the tied, so that a fair draw is a fair choice; without a tie, none."""
    candidates = open_of(Row("a", 2), Row("b", 1), Row("c", 2), Row("d", 1), Row("e", 1))
    chances = [Loaded(number) for number in range(3)]
    chosen = [candidates.name(LeastLoaded().pick(candidates, each)[0]) for each in chances]
    assert (chosen, [each.among for each in chances]) == (["b", "d", "e"], [[3]] * 3)
    chance = Loaded(0)
    LeastLoaded().pick(open_of(Row("a", 2), Row("b", 1)), chance)
    assert chance.among == []


def test_round_robin_goes_in_the_order_of_names() -> None:
    """A substation that cannot be chosen only loses its turn."""
    table = table_of(*THREE)
    chooser, random = POLICIES["round-robin"](), Random(0)  # noqa: S311
    found = []
    for turn in ["abc", "abc", "ab", "bc", "bc", "ac", "abc"]:
        candidates = table.candidates_for(7, [*turn], NOW)
        assert candidates is not None
        found.append(candidates.name(chooser.pick(candidates, random)[0]))
    assert found == ["a", "b", "a", "b", "c", "a", "b"]


def test_round_robin_continues_after_a_substation_that_left() -> None:
    """The next by name follows, even if the substations have changed."""
    chooser, random = POLICIES["round-robin"](), Random(0)  # noqa: S311
    turns = []
    for there in ["abd", "abd", "acd", "acd", "abd"]:
        candidates = open_of(*(Row(name) for name in there))
        place, reason = chooser.pick(candidates, random)
        turns.append((candidates.name(place), reason))
    assert turns == [
        ("a", "the first"), ("b", "next after a"), ("c", "next after b"), ("d", "next after c"),
        ("a", "next after d"),
    ]  # fmt: skip


@given(st.integers(1, 9), st.integers(0, 60))
def test_round_robin_gives_each_its_share(count: int, requests: int) -> None:
    """With the same candidates, no two substations differ by more than one."""
    won = wins("round-robin", open_of(*(Row(f"s{number}") for number in range(count))), requests)
    assert sum(won.values()) == requests
    assert max(won.values(), default=0) - min(won[f"s{n}"] for n in range(count)) <= 1


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 99))
def test_policies_are_deterministic_given_random_and_history(name: str, seed: int) -> None:
    """A decision can be reproduced from its inputs."""
    one, other = POLICIES[name](), POLICIES[name]()
    first, second = Random(seed), Random(seed)  # noqa: S311
    candidates = open_of(*(Row(each, 2) for each in "abcde"))
    for _ in range(5):
        assert one.pick(candidates, first) == other.pick(candidates, second)
