"""Taking jobs back from substations that may be alive: what they charge is theirs."""

from __future__ import annotations

import pytest

from grid import parking
from grid.events import Event, State
from tests.dispatcher.reclaim_harness import BOUND, Bench, at_work
from tests.grid.links import eventually

pytestmark = pytest.mark.usefixtures("quick_reclaim")


async def test_reclaimer_leaves_sessions_to_living_substation() -> None:
    """Its sessions' jobs go back to it, once; jobs that only wait behind them are moved."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "charging", "waiting", "elsewhere", "over")
    bench.charges("charging", "s1")
    bench.charges("elsewhere", "s2")
    bench.charges("over", "s1")
    bench.ends("over")
    bench.state("s1", reachable=True, consumers=0)
    async with at_work(bench):
        await bench.rounds(6)
        assert bench.jobs() == ["waiting", "elsewhere"]
        assert (bench.taker.acked, bench.taker.requeued) == (["over"], [])
        bench.consumers["s1"] = 1
        await bench.rounds()
        assert bench.taker.requeued == ["charging"]
        await bench.rounds()
    assert bench.taker.requeued == ["charging"]


async def test_reclaimer_leaves_long_session_to_living_substation() -> None:
    """So many others began since that the newest events do not tell of it any more."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "charging", "waiting")
    bench.open_jobs.take(Event(State.CHARGING, 1.0, "charging", "s1"), 0)
    bench.state("s1", reachable=True, consumers=0)
    async with at_work(bench):
        await bench.rounds(6)
    assert bench.jobs() == ["waiting"]


async def test_reclaimer_reclaims_replayed_job_that_was_parked_before() -> None:
    """It waits for a dead substation like any other; one that was parked from there is a copy."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "parked", "replayed")
    bench.taker.headers["replayed"] = parking.marked(1)
    for job in ("parked", "replayed"):
        bench.index.apply(Event(State.PARKED, 1, job=job))
    bench.kill("s1")
    async with at_work(bench):
        await bench.rounds()
    assert (bench.taker.acked, bench.jobs()) == (["parked"], ["replayed"])


async def test_reclaimer_acknowledges_session_that_ends_meanwhile() -> None:
    """The job was left to its substation, and its end is in the log."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "a", "b")
    bench.charges("a", "s1")
    bench.charges("b", "s1")
    bench.state("s1", reachable=True, consumers=0)
    async with at_work(bench):
        await bench.rounds()
        bench.ends("a")
        await bench.rounds()
        assert (bench.taker.acked, bench.handed) == (["a"], [])
        bench.kill("s1")
        await bench.rounds()
    assert bench.jobs() == ["b"]
    assert bench.taker.requeued == ["b"]


async def test_reclaimer_limits_sessions_held_for_each_substation() -> None:
    """Jobs in progress at one substation do not keep others' jobs from being reclaimed."""
    bench = Bench("s1", "s2", "s3")
    names = [f"c{number}" for number in range(2 * BOUND)]
    bench.taker.put("s1", *names)
    for each in names:
        bench.charges(each, "s1")
    bench.state("s1", reachable=True, consumers=0)
    bench.taker.put("s2", "b")
    bench.kill("s2")
    async with at_work(bench):
        await bench.rounds()
        assert bench.jobs() == ["b"]
        assert len(bench.taker.queues["s1"]) == BOUND
    assert bench.taker.requeued == []


async def test_reclaimer_reclaims_sessions_of_dead_substation() -> None:
    """Its sessions ended with it."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "a")
    bench.charges("a", "s1")
    bench.kill("s1")
    async with at_work(bench):
        await eventually(lambda: bench.jobs() == ["a"], "it is taken back")


@pytest.mark.parametrize("consumers", [1, None])
async def test_reclaimer_moves_waiting_jobs_of_unreachable_substation(
    consumers: int | None,
) -> None:
    """Its queue may have a consumer: waiting jobs go elsewhere, sessions stay."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "charging", "waiting")
    bench.charges("charging", "s1")
    bench.state("s1", reachable=False, consumers=consumers)
    async with at_work(bench):
        await bench.rounds()
    assert bench.jobs() == ["waiting"]
    assert bench.taker.acked == []
