"""Tenants share what there is, by their weights; one alone is served in its order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.fairness import BURST_HOURS, FEW, FairShares, _Level
from scheduling.order import DeadlineOrder, FifoOrder, LaxityOrder, Order, Requirements
from scheduling.wait_queue import WaitQueue

ORDERS: list[Order] = [DeadlineOrder(), FifoOrder(), LaxityOrder()]
WEEK = 7 * 24 * 3600.0


@dataclass(frozen=True, eq=False)
class One:
    """A job that waits."""

    requirements: Requirements

    @property
    def tenant(self) -> str:
        """Return whose it is."""
        return self.requirements.tenant


def one(
    tenant: str, at: float, *, hours: float = 1.0, priority: int = 0, departs_at: float = inf
) -> One:
    """Return a job requested at a time, which is its id as well."""
    rank = (float(-priority), departs_at, at, f"{at:012.3f}")
    return One(Requirements(rank, (), 7.4, departs_at, 0.0, inf, tenant, hours))


def queue_of(*jobs: One, order: Order | None = None, **weights: float) -> WaitQueue[One]:
    """Return a queue to which the jobs were added in this order."""
    queue: WaitQueue[One] = WaitQueue(order or DeadlineOrder(), weights)
    for job in jobs:
        queue.add(job)
    return queue


def serve(queue: WaitQueue[One]) -> One:
    """Assign the first job."""
    job = next(iter(queue))
    queue.remove_first(1, [])
    return job


def served(queue: WaitQueue[One], count: int) -> Counter[str]:
    """Return how many hours each tenant has of the first jobs."""
    hours: Counter[str] = Counter()
    for _ in range(count):
        job = serve(queue)
        hours[job.tenant] += job.requirements.hours  # type: ignore[assignment]
    return hours


@pytest.mark.parametrize("order", ORDERS, ids=lambda each: each.name)
@given(st.lists(st.integers(0, 50), unique=True), st.integers())
def test_tenant_alone_is_served_in_the_order_of_its_requests(
    order: Order, times: list[int], seed: int
) -> None:
    """Also where they come in another order, and some wait again."""
    queue, random = queue_of(order=order), Random(seed)  # noqa: S311
    jobs = [one("a", float(at)) for at in times]
    for job in jobs:
        queue.add(job)
        if random.random() < 0.3:
            queue.add(serve(queue))
    assert [each.requirements.rank[2] for each in queue] == sorted(times)


@pytest.mark.parametrize("order", ORDERS, ids=lambda each: each.name)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), unique_by=lambda x: x[1]),
    st.integers(),
)
def test_jobs_of_a_tenant_keep_their_order_among_others(
    order: Order, jobs: list[tuple[str, int]], seed: int
) -> None:
    """Whatever comes in between, leaves, or waits again."""
    queue, random = queue_of(order=order), Random(seed)  # noqa: S311
    for tenant, at in jobs:
        queue.add(one(tenant, float(at), hours=random.choice([0.1, 1.0, 7.0])))
        chance = random.random()
        if chance < 0.2:
            queue.add(serve(queue))
        elif chance < 0.3:
            queue.pop_last(1)
        elif chance < 0.4:
            serve(queue)
    for tenant in "abc":
        times = [each.requirements.rank[2] for each in queue if each.tenant == tenant]
        assert times == sorted(times)


@pytest.mark.parametrize("order", ORDERS, ids=lambda each: each.name)
@pytest.mark.parametrize("weights", [{}, {"b": 3.0}, {"a": 0.5, "b": 2.0}])
def test_tenants_that_all_flood_share_by_their_weights(
    order: Order, weights: Mapping[str, float]
) -> None:
    """In hours, however long the sessions of each are, whoever came first."""
    jobs = [one("a", float(at), hours=4.0) for at in range(500)]
    jobs += [one("b", 1000.0 + at, hours=0.5) for at in range(4000)]
    queue = queue_of(*jobs, order=order, **weights)
    served(queue, 200)  # what the second had saved up
    hours = served(queue, 800)
    ratio = weights.get("b", 1.0) / weights.get("a", 1.0)
    assert hours["b"] / hours["a"] == pytest.approx(ratio, rel=0.05)


def test_tenant_below_its_share_comes_before_one_that_floods() -> None:
    """Its requests come behind a thousand of another's, and are the next."""
    queue = queue_of(*(one("flood", float(at)) for at in range(1000)))
    served(queue, 100)
    queue.add(one("small", 2000.0))
    queue.add(one("small", 2001.0))
    assert [serve(queue).tenant for _ in range(3)] == ["small", "small", "flood"]


def test_idle_tenant_has_no_more_saved_up_than_a_burst() -> None:
    """However long it was idle, after that burst both have the same."""
    queue = queue_of(*(one("busy", float(at)) for at in range(3000)))
    queue.add(one("idle", 3000.0))
    served(queue, 1000)
    for at in range(1000):
        queue.add(one("idle", 4000.0 + at))
    assert served(queue, int(BURST_HOURS)) == {"idle": int(BURST_HOURS)}
    hours = served(queue, 200)
    assert hours["idle"] == pytest.approx(hours["busy"], abs=2)


def test_priorities_come_before_shares() -> None:
    """And each has its own: what was given at one is not owed at another."""
    queue = queue_of(
        *(one("flood", float(at), priority=9) for at in range(50)),
        *(one("flood", 100.0 + at) for at in range(50)),
        *(one("small", 200.0 + at) for at in range(50)),
    )
    assert served(queue, 50) == {"flood": 50}
    hours = served(queue, 60)
    assert hours["small"] - BURST_HOURS == pytest.approx(hours["flood"], abs=1)


def test_withdrawn_job_takes_nothing_of_its_tenants_share() -> None:
    """What is given back, cancelled or expired is not held against its tenant."""
    queue = queue_of(*(one("a", float(at)) for at in range(100)), one("b", 500.0))
    removed = queue.pop_where(lambda job: 50 <= job.requirements.rank[2] < 100)
    assert len(removed) == 50
    for at in range(50):
        queue.add(one("a", 600.0 + at))
        queue.add(one("b", 600.0 + at))
    hours = served(queue, 100)
    assert hours["a"] == pytest.approx(hours["b"], abs=2)


def test_job_given_back_is_of_the_tenant_that_floods() -> None:
    """So that those of others behind it get in."""
    queue = queue_of(
        *(one("flood", float(at)) for at in range(90)),
        *(one("small", 100.0 + at) for at in range(10)),
    )
    assert {each.tenant for each in queue.pop_last(50)} == {"flood"}


def test_flood_that_waits_for_long_is_not_due_before_others() -> None:
    """Beside jobs with departures, a job that waited for half an hour is due."""
    queue = queue_of(
        *(one("flood", float(at)) for at in range(100)),
        one("leaves", 50.0, departs_at=WEEK),
        one("small", 3000.0),
        one("early", 60.0),
    )
    queue.arrange([3600.0], 3600.0)
    assert [each.tenant for each in queue][:3] == ["early", "leaves", "small"]
    queue.arrange([9000.0], 9000.0)
    tenants = [each.tenant for each in queue]
    assert tenants == ["early", "small", *["flood"] * 100, "leaves"]


def test_tenants_that_owe_nothing_are_forgotten() -> None:
    """Anybody may name any number of them."""
    shares, level = FairShares({}), _Level()
    for number in range(10_000):
        job = one(f"tenant-{number}", float(number)).requirements
        tag = level.enter(job, 1.0, BURST_HOURS)
        level.time = max(level.time, tag + BURST_HOURS + 1.0)
    assert len(level.tenants) <= 3 * FEW
    assert shares.enter(one("a", 0.0).requirements) == -BURST_HOURS


def leaving(tenant: str, at: float, departs_at: float, seconds: float = 3600.0) -> One:
    """Return a job that must be done by a departure."""
    rank = (0.0, departs_at - seconds, at, f"{at:012.3f}")
    return One(Requirements(rank, (), 7.4, departs_at, seconds, inf, tenant, seconds / 3600.0))


def test_flood_of_jobs_with_departures_is_planned_behind_those_of_others() -> None:
    """There is time for ten jobs; those of the flood that came first are more urgent."""
    queue = queue_of(*(leaving("flood", float(at), 18_000.0 + at) for at in range(100)))
    for at in range(100, 104):
        queue.add(leaving("small", float(at), 19_000.0 + at))
    queue.arrange([200.0, 200.0], 200.0)
    tenants = [each.tenant for each in queue]
    assert tenants[:10].count("small") == 4
    assert set(tenants[10:]) == {"flood"}


def test_jobs_with_departures_are_planned_alike_while_there_is_time_for_all() -> None:
    """Whoever they are from, the one that must begin soonest is next."""
    queue = queue_of(*(leaving("a", float(at), 40_000.0 + 10 * at) for at in range(8)))
    queue.add(leaving("b", 10.0, 90_000.0))
    queue.arrange([0.0] * 10, 20.0)
    assert [each.tenant for each in queue] == [*["a"] * 8, "b"]
