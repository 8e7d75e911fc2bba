from __future__ import annotations

from itertools import combinations
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.messages import ChargeRequest
from scheduling.order import (
    DUE_AFTER_SECONDS,
    ORDERS,
    DeadlineOrder,
    Order,
    Requirements,
    requirements,
)

NOW = 10_000.0


def job(
    name: str,
    seconds: float = 0.0,
    departs: float = inf,
    *,
    priority: int = 0,
    age: float = 0.0,
    power_kw: float = 7.0,
) -> Requirements:
    """Return what a job needs; its departure is counted from now."""
    at = NOW + departs
    rank = (float(-priority), at - seconds, NOW - age, name)
    return Requirements(rank, (), power_kw, at, seconds)


def order_of(*jobs: Requirements, free: tuple[float, ...] = (0.0,), order: Order) -> str:
    """Return the jobs in the order of their turns; connectors are free so long from now."""
    turns = order.turns(jobs, [NOW + each for each in free], NOW)
    return " ".join(each.rank[3] for _, each in sorted(zip(turns, jobs, strict=True)))


def deadline(*jobs: Requirements, free: tuple[float, ...] = (0.0,)) -> str:
    """Return the jobs in the order of their turns, by departure."""
    return order_of(*jobs, free=free, order=DeadlineOrder())


def test_requirements_take_as_long_as_the_energy_at_the_speed_of_charging() -> None:
    """In a simulation so many seconds of charging pass in one."""
    asked = ChargeRequest("x", 1, None, 22, 11, departure_time=90_000)
    assert requirements(asked).seconds == 7200
    assert requirements(asked, 3600).seconds == 2
    assert requirements(asked, 3600).latest_start == 89_998
    assert requirements(ChargeRequest("x", 1)).seconds == 0


def test_deadline_order_puts_those_that_can_be_done_before_those_that_cannot() -> None:
    """The one that must begin soonest comes first; the late one, however urgent, last."""
    assert deadline(job("late", 50, 40), job("b", 10, 90), job("a", 50, 100)) == "a b late"


def test_deadline_order_leaves_out_the_longest_of_too_many() -> None:
    """Three short ones for one long one; what is left out is still before what is late."""
    jobs = [job("long", 30, 30), job("a", 10, 31), job("b", 10, 32), job("c", 10, 33)]
    assert deadline(*jobs, job("late", 50, 40)) == "a b c long late"


def test_deadline_order_leaves_out_the_least_energy_of_equally_long_ones() -> None:
    """Met demands are not bought with lost energy."""
    assert deadline(job("less", 10, 10, power_kw=7), job("more", 10, 10, power_kw=22)) == (
        "more less"
    )


def test_deadline_order_counts_on_connectors_when_they_are_expected_to_be_free() -> None:
    """A job that cannot wait for one is left out, however many are free later."""
    jobs = job("tight", 10, 12), job("loose", 20, 40)
    assert deadline(*jobs, free=(0.0, 0.0)) == "tight loose"
    assert deadline(*jobs, free=(5.0, 5.0)) == "loose tight"


def test_deadline_order_keeps_to_priorities() -> None:
    """Within each, the most are done; the higher one takes its connectors before."""
    urgent = job("urgent", 50, 50, priority=1)
    assert deadline(job("a", 10, 20), urgent, job("b", 10, 70)) == "urgent b a"
    assert deadline(job("a", 10, 20), job("late", 50, 40, priority=1)) == "late a"


def test_deadline_order_serves_jobs_without_a_departure_by_age() -> None:
    """After those that can be done, and before those that are late."""
    young, old = job("young"), job("old", age=5)
    assert deadline(young, job("late", 9, 8), old, job("a", 9, 10)) == "a old young late"


def test_deadline_order_puts_a_job_first_that_has_waited_for_long() -> None:
    """So none waits for ever, and what is planned for the others leaves room for it."""
    due = job("due", 10, age=DUE_AFTER_SECONDS)
    almost = job("almost", age=DUE_AFTER_SECONDS - 1)
    assert deadline(almost, job("a", 10, 15), due) == "due a almost"
    assert deadline(job("a", 10, 15), job("b", 10, 30), due) == "due b a"


def test_deadline_order_is_due_by_priority() -> None:
    """Each priority may have a time of its own."""
    order = DeadlineOrder({5: 60.0})
    jobs = [job("a", 10, 90, priority=5), job("b", age=60, priority=5)]
    jobs += [job("c", 10, 90), job("d", age=60)]
    assert order_of(*jobs, order=order) == "b a c d"


def test_deadline_order_without_connectors_still_tells_what_is_late() -> None:
    """While nothing can be sent anywhere, nobody knows when a connector is free."""
    assert deadline(job("late", 9, 8), job("b", 9, 20), job("a", 9, 10), free=()) == "a b late"


@pytest.mark.parametrize("name", ORDERS)
def test_every_order_serves_a_higher_priority_first(name: str) -> None:
    """Whatever is known of the jobs."""
    jobs = [job("low", 10, 11, age=99), job("high", 10, 90, priority=3), job("top", priority=9)]
    assert order_of(*jobs, order=ORDERS[name]()) == "top high low"


def test_fifo_order_does_not_look_at_departures() -> None:
    """First come, first served; of equals the lower id."""
    jobs = [job("b", 10, 11), job("a", 10, 20), job("old", age=1)]
    assert order_of(*jobs, order=ORDERS["fifo"]()) == "old a b"


JOBS = st.lists(
    st.tuples(st.integers(1, 20), st.integers(0, 60)).map(
        lambda each: (each[0], each[0] + each[1])
    ),
    max_size=7,
)


def most_on_one(jobs: list[tuple[int, int]]) -> int:
    """Return how many can be done by their departures on one connector: by trying all sets."""
    for size in range(len(jobs), 0, -1):
        for chosen in combinations(jobs, size):
            at = 0
            if all((at := at + each[0]) <= each[1] for each in sorted(chosen, key=lambda e: e[1])):
                return size
    return 0


@given(JOBS)
def test_deadline_order_keeps_the_most_on_one_connector(asked: list[tuple[int, int]]) -> None:
    """There Moore and Hodgson's algorithm is exact; nobody is lost or named twice."""
    jobs = [job(str(number), *map(float, each)) for number, each in enumerate(asked)]
    turns = DeadlineOrder().turns(jobs, [NOW], NOW)
    assert len(turns) == len(jobs)
    assert sum(turn[1] == 0 for turn in turns) == most_on_one(asked)


@given(JOBS, st.integers(0, 30))
def test_deadline_order_keeps_jobs_that_can_all_be_done(
    asked: list[tuple[int, int]], free: int
) -> None:
    """One after the other in the order of their departures, once the connector is free."""
    jobs = [job(str(number), *map(float, each)) for number, each in enumerate(asked)]
    turns = DeadlineOrder().turns(jobs, [NOW + free], NOW)
    assert len(set(turns)) == len(jobs)
    at = NOW + free
    kept = (each for each, turn in zip(jobs, turns, strict=True) if turn[1] == 0)
    for each in sorted(kept, key=lambda each: each.departs_at):
        at += each.seconds
        assert at <= each.departs_at


@given(JOBS)
def test_deadline_order_with_ample_room_keeps_every_job_that_is_not_late(
    asked: list[tuple[int, int]],
) -> None:
    """Then every order meets the same demands."""
    jobs = [job(str(number), *map(float, each)) for number, each in enumerate(asked)]
    turns = DeadlineOrder().turns(jobs, [NOW] * len(jobs), NOW)
    assert all(turn[1] == 0 for turn in turns)


@given(
    st.floats(-100, 100) | st.just(inf),
    st.floats(0, 100),
    st.floats(0, 3 * DUE_AFTER_SECONDS),
    st.lists(st.floats(-50, 50), max_size=2).map(sorted),
    st.integers(0, 9),
)
def test_deadline_order_of_a_single_job_is_that_of_several(
    departs: float, seconds: float, age: float, free: list[float], priority: int
) -> None:
    """A short way leads there; beside it stands a job of the lowest priority, which is late."""
    one = job("one", seconds, departs, priority=priority, age=age)
    other = job("other", 10.0, -100.0)
    free_at = [NOW + each for each in free]
    (alone,) = DeadlineOrder().turns([one], free_at, NOW)
    beside, _ = DeadlineOrder().turns([one, other], free_at, NOW)
    assert alone == beside
