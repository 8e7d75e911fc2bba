"""Requests that a dispatcher published once more, and what becomes of them at another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dispatcher.jobs import COPY_HEADER, TAKEN_BACK_HEADER
from dispatcher.set_back import TAKEN_BACK_SECONDS
from grid import events, topology
from grid.events import Event, State
from tests.dispatcher.bench import AT, Bench, body, confirming
from tests.dispatcher.test_doubt import Log
from tests.fake_broker import turns

COPY = {COPY_HEADER: True}
QUEUED = Event(State.QUEUED, AT, "j1")


@asynccontextmanager
async def reading(log: Log) -> AsyncIterator[Bench]:
    """Run a dispatcher that knows the older part of the log once a test says so."""
    bench = Bench(confirming(), "s1", "s2", read_log=Log(), read_all=log)
    task = asyncio.create_task(bench.dispatcher.intake.run())
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def older(bench: Bench, *told: Event) -> None:
    """Have the older part of the log tell something."""
    for offset, event in enumerate(told):
        bench.open_jobs.take(event, offset)


async def test_copy_waits_until_the_whole_log_is_known() -> None:
    """And is sent then, since nothing says that its job is anywhere."""
    log = Log()
    async with reading(log) as bench:
        bench.queue.bring(body("j1"), "j1", headers=COPY)
        bench.queue.bring(body("j2"), "j2")
        await turns()
        assert bench.routed() == ["j2"]
        assert bench.dispatcher.in_hand().jobs >= {"j1"}
        older(bench, QUEUED)
        log.read.set()
        await turns()
        assert bench.routed() == ["j2", "j1"]


async def test_copy_of_a_job_that_has_ended_is_dropped() -> None:
    """However long ago that was, and however often it was delivered."""
    for again in (False, True):
        log = Log()
        async with reading(log) as bench:
            bench.queue.bring(body("j1"), "j1", headers=COPY, again=again)
            older(bench, QUEUED, Event(State.COMPLETED, AT, "j1", "s1"))
            log.read.set()
            await turns()
            assert bench.routed() == []
            assert bench.queue.acked == [1]


async def test_copy_of_a_job_that_is_at_a_substation_is_dropped() -> None:
    """Its queue, or the substation, has the job."""
    log = Log()
    async with reading(log) as bench:
        bench.queue.bring(body("j1"), "j1", headers=COPY)
        older(bench, QUEUED, Event(State.ASSIGNED, AT, "j1", "s1"))
        log.read.set()
        await turns()
        assert bench.routed() == []
        assert bench.queue.acked == [1]


async def test_copy_that_comes_again_goes_where_it_was_decided_to_go() -> None:
    """Whoever decided that may have ended before the job was published."""
    for _ in range(5):
        log = Log()
        async with reading(log) as bench:
            bench.queue.bring(body("j1"), "j1", headers=COPY, again=True)
            older(bench, QUEUED, Event(State.ASSIGNED, AT, "j1", "s2"))
            log.read.set()
            await turns()
            assert bench.publisher.routed() == [("j1", "s2")]


async def test_copy_of_a_job_that_was_taken_back_is_sent_anew() -> None:
    """That it was at that substation is no reason to drop it."""
    log = Log()
    async with reading(log) as bench:
        headers = {**COPY, TAKEN_BACK_HEADER: "s1"}
        bench.queue.bring(body("j1"), "j1", headers=headers)
        older(bench, QUEUED, Event(State.ASSIGNED, AT, "j1", "s1"))
        log.read.set()
        await turns()
        assert bench.routed() == ["j1"]


async def test_request_that_is_set_back_says_that_it_has_a_record() -> None:
    """One that was published to RabbitMQ directly has none, and must not be taken for ended."""
    bench = Bench(confirming(), "s1", "s2")
    older(bench, Event(State.QUEUED, AT, "known"))
    for job in ("known", "unknown"):
        bench.queue.bring(body(job, "s1"), job)
    await turns()
    bench.lose("s1")
    for job in ("known", "unknown"):
        assert bench.rescue.bring("s1", body(job, "s1"), job)
    await turns()
    bench.now += TAKEN_BACK_SECONDS + 1
    bench.dispatcher.tick()
    await turns()
    found = {
        str(each.properties.message_id): COPY_HEADER in (each.properties.headers or {})
        for each in bench.publisher.to(topology.REQUESTS_EXCHANGE)
    }
    assert found == {"known": True, "unknown": False}
    requeued = [each.job for each in bench.publisher.events(events.REQUEUED)]
    assert requeued == ["known", "unknown"]
