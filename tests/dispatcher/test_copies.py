"""Requests that a dispatcher published once more, and what becomes of them at another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER
from dispatcher.requeue_overflow import MAX_HELD_SECONDS
from grid import events, topology
from grid.amqp import Outcome
from grid.events import Event, State
from grid.topology import SUBSTATIONS_EXCHANGE
from tests.dispatcher.harness import AT, Bench, always, body, confirming
from tests.dispatcher.test_held import Log
from tests.fake_broker import turns

COPY = {COPY_HEADER: True}
QUEUED = Event(State.QUEUED, AT, "j1")


@asynccontextmanager
async def reading(log: Log) -> AsyncIterator[Bench]:
    """Run a dispatcher that knows the older part of the log once a test says so."""
    bench = Bench(confirming(), "s1", "s2", reads_log=True)
    task = asyncio.create_task(bench.shell.run(Log(), log, always))
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def older(bench: Bench, *told: Event) -> None:
    """Have the older part of the log tell something."""
    for offset, event in enumerate(told):
        bench.open_jobs.take(event, offset)


async def test_core_holds_copy_until_whole_log_is_read() -> None:
    """It is sent then, since the log has its job nowhere."""
    log = Log()
    async with reading(log) as bench:
        bench.queue.bring(body("j1"), "j1", headers=COPY)
        bench.queue.bring(body("j2"), "j2")
        await turns()
        assert bench.routed() == ["j2"]
        assert bench.work.in_hand().jobs >= {"j1"}
        older(bench, QUEUED)
        log.read.set()
        await turns()
        assert bench.routed() == ["j2", "j1"]


async def test_core_drops_copy_of_job_that_has_ended() -> None:
    """Whenever the job ended, and however often the copy was delivered."""
    for again in (False, True):
        log = Log()
        async with reading(log) as bench:
            bench.queue.bring(body("j1"), "j1", headers=COPY, again=again)
            older(bench, QUEUED, Event(State.COMPLETED, AT, "j1", "s1"))
            log.read.set()
            await turns()
            assert bench.routed() == []
            assert bench.queue.acked == [1]


async def test_core_sends_copy_to_substation_that_has_the_job() -> None:
    """That substation recognises a second copy, and has the job now if the first never arrived."""
    for again in (False, True):
        for _ in range(5):
            log = Log()
            async with reading(log) as bench:
                bench.queue.bring(body("j1"), "j1", headers=COPY, again=again)
                older(bench, QUEUED, Event(State.ASSIGNED, AT, "j1", "s2"))
                log.read.set()
                await turns()
                assert bench.publisher.routed() == [("j1", "s2")]


async def test_core_decides_anew_on_copy_of_reclaimed_job() -> None:
    """That the job was at the substation it was reclaimed from is no reason to drop the copy."""
    log = Log()
    async with reading(log) as bench:
        headers = {**COPY, RECLAIMED_HEADER: "s1"}
        bench.queue.bring(body("j1"), "j1", headers=headers)
        older(bench, QUEUED, Event(State.ASSIGNED, AT, "j1", "s1"))
        log.read.set()
        await turns()
        assert bench.routed() == ["j1"]


async def test_core_marks_and_records_requeued_request() -> None:
    """Without the record, the log would still have the job at the substation it has left."""
    bench = Bench(confirming(), "s1", "s2")
    older(bench, Event(State.QUEUED, AT, "taken-back"), Event(State.QUEUED, AT, "refused"))
    bench.queue.bring(body("taken-back", "s1"), "taken-back")
    await turns()
    bench.publisher.automatic[SUBSTATIONS_EXCHANGE] = Outcome.REFUSED
    bench.queue.bring(body("refused", "s1"), "refused")
    await turns()
    bench.lose("s1")
    assert bench.reclaim.bring("s1", body("taken-back", "s1"), "taken-back")
    await turns()
    bench.position = 10  # the log was read up to all of that
    bench.now += MAX_HELD_SECONDS + 1
    bench.shell.tick()
    await turns()
    found = {
        str(each.id): each.headers or {} for each in bench.publisher.to(topology.REQUESTS_EXCHANGE)
    }
    assert {job: each[RECLAIMED_HEADER] for job, each in found.items()} == {
        "refused": "s1",
        "taken-back": "s1",
    }
    assert all(each[COPY_HEADER] for each in found.values())
    assert {each.job for each in bench.publisher.events(events.REQUEUED)} == found.keys()
    assert bench.open_jobs.waiting == 2
