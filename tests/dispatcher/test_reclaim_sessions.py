"""Taking jobs back from substations that may be alive: what they charge is theirs."""

from __future__ import annotations

import pytest

from grid import parking
from grid.events import Event, State
from tests.dispatcher.reclaim_harness import BOUND, Bench, at_work
from tests.grid.links import eventually

pytestmark = pytest.mark.usefixtures("quick_reclaim")


async def test_sessions_of_a_living_substation_are_left_to_it() -> None:
    """Those it charges come back to it, once; those that only wait behind them are moved."""
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


async def test_long_session_of_a_living_substation_is_left_to_it() -> None:
    """So many others began since that the newest events do not tell of it any more."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "charging", "waiting")
    bench.open_jobs.take(Event(State.CHARGING, 1.0, "charging", "s1"), 0)
    bench.state("s1", reachable=True, consumers=0)
    async with at_work(bench):
        await bench.rounds(6)
    assert bench.jobs() == ["waiting"]


async def test_a_replayed_job_is_not_over_for_having_been_parked() -> None:
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


async def test_a_session_that_ends_meanwhile_is_acknowledged() -> None:
    """A spared job whose end is told needs nobody any more."""
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


async def test_sessions_of_many_do_not_fill_the_hand() -> None:
    """One substation's own sessions are spared up to a bound, and hold up no other's jobs."""
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


async def test_a_dead_substation_charges_nothing() -> None:
    """Its sessions died with it: their jobs are taken back too."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "a")
    bench.charges("a", "s1")
    bench.kill("s1")
    async with at_work(bench):
        await eventually(lambda: bench.jobs() == ["a"], "it is taken back")


@pytest.mark.parametrize("consumers", [1, None])
async def test_what_waits_for_one_that_is_out_of_sight_is_moved(consumers: int | None) -> None:
    """Whatever RabbitMQ says of its queue: its waiting jobs go elsewhere, its sessions do not."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "charging", "waiting")
    bench.charges("charging", "s1")
    bench.state("s1", reachable=False, consumers=consumers)
    async with at_work(bench):
        await bench.rounds()
    assert bench.jobs() == ["waiting"]
    assert bench.taker.acked == []
