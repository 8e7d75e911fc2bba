from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.messages import DEFAULT_POWER_KW, ChargeRequest
from scheduling.order import LaxityOrder, Rank, Requirements, SortKey, requirements
from scheduling.wait_queue import WaitQueue


@dataclass(frozen=True)
class One:
    """A request that waits."""

    name: str
    requirements: Requirements


def one(name: str, *rank: float, departs_at: float = inf) -> One:
    """Make a request of a rank."""
    first, second, third = (*rank, 0.0, 0.0, 0.0)[:3]
    return One(name, Requirements((first, second, third, name), (), 7, departs_at))


def queue_of(*ones: One) -> WaitQueue[One]:
    """Make a wait queue that these requests joined in that order."""
    queue: WaitQueue[One] = WaitQueue()
    for each in ones:
        queue.add(each)
    return queue


def names(ones: WaitQueue[One] | list[One]) -> str:
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
def test_wait_queue_rank_is_priority_latest_start_age_and_id(
    request_: ChargeRequest, rank: Rank
) -> None:
    """Priority, then the latest start (departure less charging time), then age, then id."""
    assert requirements(request_).rank == rank


def test_requirements_are_power_allowed_substations_and_departure() -> None:
    """Its power or the default, the only substations allowed, and when it leaves, if ever."""
    plain = requirements(ChargeRequest("x", 5))
    assert (plain.power_kw, plain.allowed, plain.departs_at) == (DEFAULT_POWER_KW, (), inf)
    full = requirements(
        ChargeRequest("x", 5, None, 1, 22, departure_time=9, eligible_substations=("a", "b"))
    )
    assert (full.power_kw, full.allowed, full.departs_at) == (22, ("a", "b"), 9)


def test_wait_queue_is_in_the_order_of_ranks() -> None:
    """The most urgent first, then the one that must start soonest, then the oldest, then by id."""
    requests = [
        ChargeRequest("young", 9),
        ChargeRequest("b", 5),
        ChargeRequest("a", 5),
        ChargeRequest("leaves", 9, departure_time=9000),
        ChargeRequest("needs-long", 9, None, 7.4, departure_time=12000),
        ChargeRequest("urgent", 9, priority=1),
    ]
    queue = queue_of(*(One(each.id, requirements(each)) for each in requests))
    assert [each.name for each in queue] == ["urgent", "needs-long", "leaves", "a", "b", "young"]


NUMBERS = st.sampled_from([0.0, 1.0, 2.0, inf])


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=30))
def test_wait_queue_inserts_a_job_at_its_rank(ranks: list[tuple[float, ...]]) -> None:
    """In any order of joining; of equal ranks, the first stays first."""
    ones = [one("x", *rank) for rank in ranks]
    queue = queue_of(*ones)
    assert list(queue) == sorted(ones, key=lambda each: each.requirements.rank)
    assert all(
        a is b for a, b in zip(queue, sorted(ones, key=lambda e: e.requirements.rank), strict=True)
    )
    assert len(queue) == len(ones)


def test_wait_queue_keeps_jobs_that_a_pass_skips() -> None:
    """So does a pass that assigns some jobs, passes over others, and does not see the rest."""
    queue = queue_of(*(one(name, number) for number, name in enumerate("abcdef")))
    a, _, c, *_ = queue
    queue.remove_first(4, [a, c])
    assert names(queue) == "acef"
    queue.add(one("g", 3.5))
    assert names(queue) == "acgef"


def test_wait_queue_removes_jobs_whose_departure_has_passed() -> None:
    """In their order, whatever was served before; the others stay."""
    queue = queue_of(
        one("a", departs_at=5), one("b", departs_at=9), one("c"), one("d", departs_at=5),
    )  # fmt: skip
    assert queue.pop_expired(4.9) == []
    queue.pop_where(lambda each: each.name == "a")
    assert names(queue.pop_expired(5)) == "d"
    assert names(queue.pop_expired(8)) == ""
    queue.add(one("e", departs_at=7))
    assert names(queue.pop_expired(8)) == "e"
    assert names(queue.pop_expired(100)) == "b"
    assert names(queue) == "c"
    assert queue.pop_expired(inf) == [*queue_of(one("c"))]


def test_requirements_expire_at_departure_or_longest_wait() -> None:
    """Whichever comes first; without either, never."""
    fields: Mapping[str, float]
    for fields, expires in (
        ({}, inf),
        ({"departure_time": 9}, 9),
        ({"max_wait_seconds": 7}, 12),
        ({"departure_time": 9, "max_wait_seconds": 3}, 8),
        ({"departure_time": 9, "max_wait_seconds": 30}, 9),
    ):
        request = ChargeRequest("x", 5, **fields)  # type: ignore[arg-type]
        assert requirements(request).expires_at == expires
        assert (request.expires_at or inf) == expires


@pytest.mark.parametrize(
    ("count", "removed", "left"),
    [(0, "", "abcd"), (1, "d", "abc"), (3, "bcd", "a"), (9, "abcd", "")],
)
def test_wait_queue_removes_the_last_jobs(count: int, removed: str, left: str) -> None:
    """So many, or all there are, in their order."""
    queue = queue_of(*(one(name) for name in "abcd"))
    assert names(queue.pop_last(count)) == removed
    assert names(queue) == left


def test_wait_queue_removes_selected_jobs() -> None:
    """In their order, and no other."""
    queue = queue_of(*(one(name) for name in "abcd"))
    assert names(queue.pop_where(lambda each: each.name in "db")) == "bd"
    assert names(queue) == "ac"


class Ticket:
    """An order of a test: the turns that it says, and what it was asked."""

    name = "ticket"
    varies = True

    def __init__(self) -> None:
        self.asked: list[tuple[int, Sequence[float], float]] = []
        self.reverse = False

    def turns(
        self, jobs: Sequence[Requirements], free_at: Sequence[float], now: float
    ) -> Sequence[SortKey]:
        """Return the ranks, or their opposites."""
        self.asked.append((len(jobs), free_at, now))
        sign = -1.0 if self.reverse else 1.0
        return [(sign * each.rank[1],) for each in jobs]


def test_wait_queue_arranges_its_jobs_anew() -> None:
    """By what the order says of all of them, at that time; a new one gets the turn it has alone."""
    order = Ticket()
    queue: WaitQueue[One] = WaitQueue(order)
    for number, name in enumerate("abc"):
        queue.add(one(name, 0, number))
    assert names(queue) == "abc"
    order.reverse = True
    queue.arrange([7.0, 8.0], 5.0)
    assert names(queue) == "cba"
    queue.add(one("d", 0, 1.5))
    assert names(queue) == "cdba"
    assert order.asked[-2:] == [(3, [7.0, 8.0], 5.0), (1, [7.0, 8.0], 5.0)]


def test_wait_queue_without_a_departure_is_never_due() -> None:
    """Then no turn changes with time, and a decision costs what it did."""
    queue: WaitQueue[One] = WaitQueue(Ticket())
    queue.add(one("a"))
    assert not queue.is_due(0.0)
    queue.add(one("c", departs_at=9.0))
    assert queue.is_due(0.0)
    queue.pop_expired(9.0)
    assert not queue.is_due(0.0)
    queue.add(one("d", departs_at=9.0))
    queue.pop_last(1)
    assert not queue.is_due(0.0)


@pytest.mark.parametrize(("now", "due"), [(10.0, False), (10.9, False), (11.0, True), (9.0, True)])
def test_wait_queue_is_due_after_a_while(now: float, due: bool) -> None:  # noqa: FBT001
    """After a second, and when the clock was set back."""
    queue: WaitQueue[One] = WaitQueue(Ticket())
    queue.add(one("a", departs_at=99.0))
    queue.arrange([], 10.0)
    assert queue.is_due(now) is due


def test_wait_queue_is_due_when_a_share_has_changed() -> None:
    """Among many jobs and connectors, after as many changes as that plan is worth."""
    queue: WaitQueue[One] = WaitQueue(Ticket())
    for number in range(100):
        queue.add(one(str(number), departs_at=99.0))
    queue.arrange([0.0] * 60, 10.0)  # an eighth of 160 jobs and connectors
    for _ in range(17):
        assert not queue.is_due(10.0)
        queue.pop_last(1)
    assert not queue.is_due(10.0)
    queue.add(one("x"))
    assert queue.is_due(10.0)


@pytest.mark.parametrize(
    ("free_at", "supposes"), [([], True), ([15.0, 20.0], True), ([10.5], False), ([9.0], False)]
)
def test_wait_queue_supposes_none_free_by_its_plan(
    free_at: list[float],
    supposes: bool,  # noqa: FBT001
) -> None:
    """Within a second, it is renewed anyway; without a departure there is none."""
    queue: WaitQueue[One] = WaitQueue(Ticket())
    queue.add(one("a"))
    queue.arrange(free_at, 10.0)
    assert not queue.supposes_none_free(10.0)
    queue.add(one("b", departs_at=99.0))
    assert queue.supposes_none_free(10.0) is supposes


def test_wait_queue_of_an_order_that_does_not_vary_is_never_due() -> None:
    """Each job keeps the turn that it got when it came."""
    queue: WaitQueue[One] = WaitQueue(LaxityOrder())
    queue.add(one("a", departs_at=99.0))
    assert not queue.is_due(0.0)


def test_wait_queue_is_due_more_often_where_charging_is_quicker() -> None:
    """In a simulation an hour may pass in a second."""
    queue: WaitQueue[One] = WaitQueue(Ticket(), charge_speed=100.0)
    queue.add(one("a", departs_at=99.0))
    queue.arrange([], 10.0)
    assert not queue.is_due(10.009)
    assert queue.is_due(10.011)
