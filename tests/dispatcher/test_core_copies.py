"""Requests that one dispatcher published again, and that another one receives."""

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
from tests.dispatcher.harness import AT, Harness, always, body, confirming
from tests.dispatcher.test_held import ScriptedLog
from tests.fake_broker import turns

COPY = {COPY_HEADER: True}
QUEUED = Event(State.QUEUED, AT, "j1")


@asynccontextmanager
async def reading(log: ScriptedLog) -> AsyncIterator[Harness]:
    """Run a dispatcher that knows the older part of the log once a test says so."""
    harness = Harness(confirming(), "s1", "s2", reads_log=True)
    task = asyncio.create_task(harness.shell.run(ScriptedLog(), log, always))
    try:
        yield harness
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def read_older(harness: Harness, *told: Event) -> None:
    """Have events read in the older part of the log."""
    for offset, event in enumerate(told):
        harness.open_jobs.take(event, offset)


async def test_core_holds_copy_until_whole_log_is_read() -> None:
    """It is sent then, since the log has its job nowhere."""
    log = ScriptedLog()
    async with reading(log) as harness:
        harness.queue.bring(body("j1"), "j1", headers=COPY)
        harness.queue.bring(body("j2"), "j2")
        await turns()
        assert harness.routed() == ["j2"]
        assert harness.in_hand().jobs >= {"j1"}
        read_older(harness, QUEUED)
        log.read.set()
        await turns()
        assert harness.routed() == ["j2", "j1"]


async def test_core_drops_copy_of_job_that_has_ended() -> None:
    """Whenever the job ended, and however often the copy was delivered."""
    for again in (False, True):
        log = ScriptedLog()
        async with reading(log) as harness:
            harness.queue.bring(body("j1"), "j1", headers=COPY, again=again)
            read_older(harness, QUEUED, Event(State.COMPLETED, AT, "j1", "s1"))
            log.read.set()
            await turns()
            assert harness.routed() == []
            assert harness.queue.acked == [1]


async def test_core_sends_copy_to_substation_that_has_the_job() -> None:
    """That substation recognises a second copy, and has the job now if the first never arrived."""
    for again in (False, True):
        for _ in range(5):
            log = ScriptedLog()
            async with reading(log) as harness:
                harness.queue.bring(body("j1"), "j1", headers=COPY, again=again)
                read_older(harness, QUEUED, Event(State.ASSIGNED, AT, "j1", "s2"))
                log.read.set()
                await turns()
                assert harness.publisher.routed() == [("j1", "s2")]


async def test_core_decides_anew_on_copy_of_reclaimed_job() -> None:
    """That the job was at the substation it was reclaimed from is no reason to drop the copy."""
    log = ScriptedLog()
    async with reading(log) as harness:
        headers = {**COPY, RECLAIMED_HEADER: "s1"}
        harness.queue.bring(body("j1"), "j1", headers=headers)
        read_older(harness, QUEUED, Event(State.ASSIGNED, AT, "j1", "s1"))
        log.read.set()
        await turns()
        assert harness.routed() == ["j1"]


async def test_core_marks_and_records_requeued_request() -> None:
    """Without the record, the log would still have the job at the substation it has left."""
    harness = Harness(confirming(), "s1", "s2")
    read_older(harness, Event(State.QUEUED, AT, "taken-back"), Event(State.QUEUED, AT, "refused"))
    harness.queue.bring(body("taken-back", "s1"), "taken-back")
    await turns()
    harness.publisher.automatic[SUBSTATIONS_EXCHANGE] = Outcome.REFUSED
    harness.queue.bring(body("refused", "s1"), "refused")
    await turns()
    harness.fail_page("s1")
    assert harness.reclaim.deliver("s1", body("taken-back", "s1"), "taken-back")
    await turns()
    harness.position = 10  # the log was read up to all of that
    harness.now += MAX_HELD_SECONDS + 1
    harness.shell.tick()
    await turns()
    found = {
        str(each.id): each.headers or {}
        for each in harness.publisher.to(topology.REQUESTS_EXCHANGE)
    }
    assert {job: each[RECLAIMED_HEADER] for job, each in found.items()} == {
        "refused": "s1",
        "taken-back": "s1",
    }
    assert all(each[COPY_HEADER] for each in found.values())
    assert {each.job for each in harness.publisher.events(events.REQUEUED)} == found.keys()
    assert harness.open_jobs.waiting == 2
