from __future__ import annotations

from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decision.line import Line, Rank, ServingFailed, Wish, wish
from grid.messages import DEFAULT_POWER_KW, ChargeRequest


@dataclass(frozen=True)
class One:
    """A request that waits."""

    name: str
    wish: Wish


def one(name: str, *rank: float, departs_at: float = inf) -> One:
    """Make a request of a rank."""
    first, second, third = (*rank, 0.0, 0.0, 0.0)[:3]
    return One(name, Wish((first, second, third, name), (), 7, departs_at))


def line_of(*ones: One) -> Line[One]:
    """Make a wait queue that these requests joined in that order."""
    line: Line[One] = Line()
    for each in ones:
        line.join(each)
    return line


def names(ones: Line[One] | list[One]) -> str:
    """Return the names of some requests, one letter each."""
    return "".join(each.name for each in ones)


@pytest.mark.parametrize(
    ("request_", "rank"),
    [
        (ChargeRequest("x", 5), (0, inf, 5, "x")),
        (ChargeRequest("x", 5, priority=9), (-9, inf, 5, "x")),
        (ChargeRequest("x", 5, departure_time=7200), (0, 7200, 5, "x")),
        (ChargeRequest("x", 5, requested_energy_kwh=10), (0, inf, 5, "x")),
        (
            ChargeRequest(
                "x", 5, departure_time=7200, requested_energy_kwh=10, requested_power_kw=10
            ),
            (0, 3600, 5, "x"),
        ),
    ],
)
def test_what_ranks_a_request(request_: ChargeRequest, rank: Rank) -> None:
    """Priority, then the latest start (departure less charging time), then age, then id."""
    assert wish(request_).rank == rank


def test_what_a_request_wishes() -> None:
    """Its power or the default, the only substations allowed, and when it leaves, if ever."""
    plain = wish(ChargeRequest("x", 5))
    assert (plain.power_kw, plain.named, plain.departs_at) == (DEFAULT_POWER_KW, (), inf)
    full = wish(
        ChargeRequest("x", 5, None, 1, 22, departure_time=9, eligible_substations=("a", "b"))
    )
    assert (full.power_kw, full.named, full.departs_at) == (22, ("a", "b"), 9)


def test_the_order_of_requests() -> None:
    """The most urgent first, then the one that must start soonest, then the oldest, then by id."""
    requests = [
        ChargeRequest("young", 9),
        ChargeRequest("b", 5),
        ChargeRequest("a", 5),
        ChargeRequest("leaves", 9, departure_time=9000),
        ChargeRequest("needs-long", 9, None, 7.4, departure_time=12000),
        ChargeRequest("urgent", 9, priority=1),
    ]
    line = line_of(*(One(each.id, wish(each)) for each in requests))
    assert [each.name for each in line] == ["urgent", "needs-long", "leaves", "a", "b", "young"]


NUMBERS = st.sampled_from([0.0, 1.0, 2.0, inf])


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=30))
def test_whoever_joins_comes_to_the_place_of_its_rank(ranks: list[tuple[float, ...]]) -> None:
    """In any order of joining; of equal ranks, the first stays first."""
    ones = [one("x", *rank) for rank in ranks]
    line = line_of(*ones)
    assert list(line) == sorted(ones, key=lambda each: each.wish.rank)
    assert all(a is b for a, b in zip(line, sorted(ones, key=lambda e: e.wish.rank), strict=True))
    assert len(line) == len(ones)


def test_those_passed_over_keep_their_place() -> None:
    """Each is offered once, in order, with the number of others that stay or follow."""
    line = line_of(*(one(name, number) for number, name in enumerate("abcdef")))
    offered: list[tuple[str, int]] = []

    def takes(each: One, behind: int) -> bool | None:
        offered.append((each.name, behind))
        return {"b": True, "d": True, "e": None}.get(each.name, False)

    line.serve(takes)
    assert offered == [("a", 5), ("b", 5), ("c", 4), ("d", 4), ("e", 3)]
    assert names(line) == "acef"
    line.join(one("g", 3.5))
    assert names(line) == "acgef"


def test_one_over_which_the_serving_fails_leaves_the_line_as_it_is_without_it() -> None:
    """Those served before are not served again, and those behind it wait on."""
    line = line_of(*(one(name, number) for number, name in enumerate("abcde")))

    def takes(each: One, _: int) -> bool:
        if each.name == "c":
            raise KeyError
        return each.name == "a"

    with pytest.raises(ServingFailed) as failed:
        line.serve(takes)
    assert failed.value.one == one("c", 2)
    assert isinstance(failed.value.__cause__, KeyError)
    assert names(line) == "bde"


@pytest.mark.parametrize(("answer", "left"), [(True, ""), (False, "abc"), (None, "abc")])
def test_all_are_served_or_none(answer: bool | None, left: str) -> None:  # noqa: FBT001
    """An empty wait queue offers nothing."""
    line = line_of(*(one(name) for name in "abc"))
    line.serve(lambda _, __: answer)
    assert names(line) == left
    line_of().serve(lambda _, __: pytest.fail("nobody waits"))


def test_those_whose_departure_has_come_leave_the_line() -> None:
    """In their order, whatever was served before; the others stay."""
    line = line_of(
        one("a", departs_at=5), one("b", departs_at=9), one("c"), one("d", departs_at=5),
    )  # fmt: skip
    assert line.departed(4.9) == []
    line.serve(lambda each, _: each.name == "a")
    assert names(line.departed(5)) == "d"
    assert names(line.departed(8)) == ""
    line.join(one("e", departs_at=7))
    assert names(line.departed(8)) == "e"
    assert names(line.departed(100)) == "b"
    assert names(line) == "c"
    assert line.departed(inf) == [*line_of(one("c"))]


@pytest.mark.parametrize(
    ("count", "taken", "left"), [(0, "", "abcd"), (1, "d", "abc"), (3, "bcd", "a"), (9, "abcd", "")]
)
def test_the_last_are_taken_out(count: int, taken: str, left: str) -> None:
    """So many, or all there are, in their order."""
    line = line_of(*(one(name) for name in "abcd"))
    assert names(line.take_last(count)) == taken
    assert names(line) == left


def test_those_wanted_are_taken_out() -> None:
    """In their order, and no other."""
    line = line_of(*(one(name) for name in "abcd"))
    assert names(line.take(lambda each: each.name in "db")) == "bd"
    assert names(line) == "ac"
