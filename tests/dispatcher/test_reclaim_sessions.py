"""Reclaiming from substations that may be alive: their sessions are left to them."""

from __future__ import annotations

import pytest

from grid import parking
from grid.events import Event, State
from tests.dispatcher.reclaim_harness import BOUND, ReclaimHarness, at_work
from tests.grid.links import eventually

pytestmark = pytest.mark.usefixtures("quick_reclaim")


async def test_reclaimer_leaves_sessions_to_living_substation() -> None:
    """Its sessions' jobs go back to it, once; jobs that only wait behind them are moved."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "charging", "waiting", "elsewhere", "over")
    harness.charges("charging", "s1")
    harness.charges("elsewhere", "s2")
    harness.charges("over", "s1")
    harness.ends("over")
    harness.state("s1", reachable=True, consumers=0)
    async with at_work(harness):
        await harness.rounds(6)
        assert harness.jobs() == ["waiting", "elsewhere"]
        assert (harness.taker.acked, harness.taker.requeued) == (["over"], [])
        harness.consumers["s1"] = 1
        await harness.rounds()
        assert harness.taker.requeued == ["charging"]
        await harness.rounds()
    assert harness.taker.requeued == ["charging"]


async def test_reclaimer_leaves_long_session_to_living_substation() -> None:
    """So many others began since that the newest events do not tell of it any more."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "charging", "waiting")
    harness.open_jobs.take(Event(State.CHARGING, 1.0, "charging", "s1"), 0)
    harness.state("s1", reachable=True, consumers=0)
    async with at_work(harness):
        await harness.rounds(6)
    assert harness.jobs() == ["waiting"]


async def test_reclaimer_reclaims_replayed_job_that_was_parked_before() -> None:
    """It waits for a dead substation like any other; one that was parked from there is a copy."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "parked", "replayed")
    harness.taker.headers["replayed"] = parking.marked(1)
    for job in ("parked", "replayed"):
        harness.index.apply(Event(State.PARKED, 1, job=job))
    harness.kill("s1")
    async with at_work(harness):
        await harness.rounds()
    assert (harness.taker.acked, harness.jobs()) == (["parked"], ["replayed"])


async def test_reclaimer_acknowledges_session_that_ends_meanwhile() -> None:
    """The job was left to its substation, and its end is in the log."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "a", "b")
    harness.charges("a", "s1")
    harness.charges("b", "s1")
    harness.state("s1", reachable=True, consumers=0)
    async with at_work(harness):
        await harness.rounds()
        harness.ends("a")
        await harness.rounds()
        assert (harness.taker.acked, harness.handed) == (["a"], [])
        assert harness.dropped("ended") == 1
        harness.kill("s1")
        await harness.rounds()
    assert harness.jobs() == ["b"]
    assert harness.taker.requeued == ["b"]


async def test_reclaimer_limits_sessions_held_for_each_substation() -> None:
    """Jobs in progress at one substation do not keep others' jobs from being reclaimed."""
    harness = ReclaimHarness("s1", "s2", "s3")
    names = [f"c{number}" for number in range(2 * BOUND)]
    harness.taker.put("s1", *names)
    for each in names:
        harness.charges(each, "s1")
    harness.state("s1", reachable=True, consumers=0)
    harness.taker.put("s2", "b")
    harness.kill("s2")
    async with at_work(harness):
        await harness.rounds()
        assert harness.jobs() == ["b"]
        assert len(harness.taker.queues["s1"]) == BOUND
    assert harness.taker.requeued == []


async def test_reclaimer_reclaims_sessions_of_dead_substation() -> None:
    """Its sessions ended with it."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "a")
    harness.charges("a", "s1")
    harness.kill("s1")
    async with at_work(harness):
        await eventually(lambda: harness.jobs() == ["a"], "it is reclaimed")


@pytest.mark.parametrize("consumers", [1, None])
async def test_reclaimer_moves_waiting_jobs_of_unreachable_substation(
    consumers: int | None,
) -> None:
    """Its queue may have a consumer: waiting jobs go elsewhere, sessions stay."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "charging", "waiting")
    harness.charges("charging", "s1")
    harness.state("s1", reachable=False, consumers=consumers)
    async with at_work(harness):
        await harness.rounds()
    assert harness.jobs() == ["waiting"]
    assert harness.taker.acked == []
