"""Redelivered requests wait until the event log shows whether another dispatcher sent them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher import shell
from dispatcher.commands import LookAtQueue, ReadLog
from dispatcher.inputs import LogRead, QueueObserved, Tick
from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER
from dispatcher.late_events import EVENTS_SECONDS
from dispatcher.recognition import Recognition
from grid import provenance
from grid.amqp import Outcome, QueueState
from grid.events import Counts, Event, State
from grid.topology import EVENTS, SUBSTATIONS_EXCHANGE
from scheduling.readings import Reading
from tests.dispatcher.harness import AT, Harness, always, body, confirming
from tests.fake_broker import FakePublisher, turns


class ScriptedLog:
    """An event log that is read when a test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.read = asyncio.Event()

    async def __call__(self) -> None:
        """Wait until it is read."""
        self.asked += 1
        await self.read.wait()
        self.read.clear()


@asynccontextmanager
async def reading_log(log: ScriptedLog) -> AsyncIterator[Harness]:
    """Yield a dispatcher that has to read the log first."""
    harness = Harness(confirming(), "s1", reads_log=True)
    task = asyncio.create_task(harness.shell.run(log, log, always))
    try:
        yield harness
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_core_follows_the_log_for_redelivered_request() -> None:
    """The log, read meanwhile, shows that the job has ended: the request is not sent."""
    log = ScriptedLog()
    async with reading_log(log) as harness:
        harness.queue.bring(body("j1"), "j1", again=True)
        await turns()
        assert harness.routed() == []
        harness.index.apply(Event(State.COMPLETED, AT, "j1", "s1", 1))
        log.read.set()
        await turns()
        assert harness.routed() == []
        assert harness.queue.acked == [1]


async def test_core_sends_redelivered_request_after_the_log_is_read() -> None:
    """A request that is delivered for the first time does not wait for the log."""
    log = ScriptedLog()
    async with reading_log(log) as harness:
        harness.queue.bring(body("j1"), "j1", again=True)
        harness.queue.bring(body("j2"), "j2")
        await turns()
        assert harness.routed() == ["j2"]
        log.read.set()
        await turns()
        assert harness.routed() == ["j2", "j1"]


async def test_core_reads_log_again_for_requests_that_arrive_while_it_is_read() -> None:
    """Such a request may have been sent since; one more reading serves all that arrived."""
    log = ScriptedLog()
    async with reading_log(log) as harness:
        for job in ("j1", "j2", "j3"):
            harness.queue.bring(body(job), job, again=True)
            await turns()
        log.read.set()
        await turns()
        assert (harness.routed(), log.asked) == (["j1"], 2)
        log.read.set()
        await turns()
        assert harness.routed() == ["j1", "j2", "j3"]


async def test_core_does_not_hold_redelivered_request_that_it_sent_itself() -> None:
    """It is acknowledged at once."""
    log = ScriptedLog()
    async with reading_log(log) as harness:
        harness.queue.bring(body("j1"), "j1")
        await turns()
        harness.queue.break_link()
        harness.queue.bring(body("j1"), "j1", again=True)
        await turns()
        assert (harness.routed(), log.asked) == (["j1"], 0)


async def test_core_forgets_held_requests_when_link_breaks() -> None:
    """RabbitMQ redelivers the requests, and none is decided twice."""
    log = ScriptedLog()
    async with reading_log(log) as harness:
        harness.queue.bring(body("j1"), "j1", again=True)
        await turns()
        harness.queue.break_link()
        harness.queue.bring(body("j1"), "j1", again=True)
        log.read.set()
        await turns()
        assert harness.routed() == []
        log.read.set()
        await turns()
        assert harness.routed() == ["j1"]
        assert harness.queue.acked == [1]


async def test_core_holds_redelivered_requests_while_log_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another dispatcher may have sent them, so they wait, however long; a warning says so."""
    monkeypatch.setattr(shell, "SLOW_SECONDS", 0.01)
    log = ScriptedLog()
    async with reading_log(log) as harness:
        harness.queue.bring(body("j1"), "j1", again=True)
        async with asyncio.timeout(20):
            while shell.NOT_READ % 1 not in caplog.text:  # noqa: ASYNC110  # it sets no event
                await asyncio.sleep(0.005)
        assert harness.routed() == []
        assert harness.in_hand().jobs == {"j1"}
        log.read.set()
        await turns()
        assert harness.routed() == ["j1"]
        assert not harness.core.held


async def test_core_abandons_job_in_doubt_whose_delivery_was_lost() -> None:
    """RabbitMQ redelivers its request."""
    harness = Harness(FakePublisher(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    [sent] = harness.publisher.to(SUBSTATIONS_EXCHANGE)
    assert sent.wanted()
    harness.queue.break_link()
    assert not sent.wanted()
    harness.publisher.answer(SUBSTATIONS_EXCHANGE, Outcome.ABANDONED)
    await turns()
    assert harness.tracker.substations["s1"].load == 0
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert harness.routed() == ["j1", "j1"]


async def test_core_keeps_job_in_doubt_that_was_redelivered() -> None:
    """The delivery that arrived before the message was abandoned belongs to the job now."""
    harness = Harness(FakePublisher(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.queue.break_link()
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.publisher.answer(SUBSTATIONS_EXCHANGE, Outcome.ABANDONED)
    await turns()
    assert harness.routed() == ["j1", "j1"]
    harness.publisher.answer(SUBSTATIONS_EXCHANGE)
    harness.publisher.answer(EVENTS)
    harness.publisher.answer(EVENTS)
    await turns()
    assert harness.queue.acked == [1]


@pytest.mark.parametrize("headers", [None, {COPY_HEADER: True}], ids=["again", "a copy"])
async def test_core_rejects_held_request_over_which_an_error_is_raised(
    headers: dict[str, object] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service ends, and the request is rejected, so that the next process does not fail too."""
    log = ScriptedLog()
    harness = Harness(confirming(), "s1", reads_log=True)
    task = asyncio.create_task(harness.shell.run(log, log, always))
    harness.queue.bring(body("poison"), "poison", again=headers is None, headers=headers)
    await turns()
    monkeypatch.setattr(Recognition, "request", fails)
    log.read.set()
    with pytest.raises(KeyError):
        await asyncio.wait_for(task, 5)
    assert harness.queue.rejected == [1]


async def test_core_rejects_early_request_over_which_an_error_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same for a request delivered before the dispatcher had begun."""
    harness = Harness(confirming(), "s1", begun=False)
    harness.queue.bring(body("poison"), "poison")
    await turns()
    monkeypatch.setattr(Recognition, "request", fails)
    with pytest.raises(KeyError):
        harness.begin()
    assert harness.queue.rejected == [1]


def fails(*_: object) -> bool:
    """Fail with an error."""
    raise KeyError("some mistake")


@pytest.mark.parametrize("written", [{"a": 1}, ["s1"], 7, b"s1", None])
async def test_core_ignores_header_that_is_no_text(written: object) -> None:
    """Any publisher may have set it."""
    log = ScriptedLog()
    async with reading_log(log) as harness:
        harness.queue.bring(body("j1"), "j1", headers={RECLAIMED_HEADER: written})
        await turns()
        assert harness.routed() == ["j1"]


def begun_unseen(harness: Harness, name: str) -> Counts:
    """Have a substation's page show a session of which no event was read; return its counters."""
    counts = Counts(1, 1, 0, 0, 1.0)
    harness.watch.on_reading(name, Reading(1, counts=counts), harness.now)
    return counts


async def test_core_waits_for_late_events_of_substations_before_it_sends_redelivered_request() -> (
    None
):
    """RabbitMQ was killed: it kept the job, and not its decision; its session began unseen."""
    harness = Harness(confirming(), "s1", "s2")
    counts = begun_unseen(harness, "s1")
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.queue.bring(body("j2"), "j2")
    await turns()
    harness.shell.tick()
    await turns()
    assert harness.routed() == ["j2"], "one that is delivered for the first time does not wait"
    assert harness.in_hand().jobs == {"j1"}
    charging = Event(State.CHARGING, AT, "j1", "s1", 1, counts=counts)
    harness.read_events(charging, writer=provenance.substation_writer("s1"))
    harness.shell.tick()
    await turns()
    assert harness.publisher.routed()[1:] == [("j1", "s1")], "it goes where it is charging"


@pytest.mark.parametrize("ready", [0, 1], ids=["reported as empty", "with a job"])
async def test_core_waits_for_the_consumer_of_a_queue_and_for_a_later_page(ready: int) -> None:
    """A job there may be that of the redelivered request: nobody knows until it begins.

    RabbitMQ reports a queue that has no leader yet as empty.
    """
    harness = Harness(confirming(), "s1", "s2")
    harness.shell.feed(QueueObserved(LookAtQueue("s1"), QueueState(ready, 0)))
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert harness.routed() == []
    harness.now += 0.1
    harness.shell.feed(QueueObserved(LookAtQueue("s1"), QueueState(0, 1)))
    harness.shell.tick()
    await turns()
    assert harness.routed() == [], "its page is older than its consumer"
    harness.read("s1")
    harness.shell.tick()
    await turns()
    assert harness.routed() == ["j1"]


async def test_core_asks_for_consumers_anew_after_a_link_broke() -> None:
    """What was seen before says nothing of a RabbitMQ that has started since."""
    harness = Harness(confirming(), "s1", "s2")
    harness.shell.feed(QueueObserved(LookAtQueue("s1"), QueueState(0, 1)))
    harness.now += 1
    harness.queue.break_link()
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.read("s1")
    await turns()
    assert harness.routed() == []
    harness.shell.feed(QueueObserved(LookAtQueue("s1"), QueueState(0, 1)))
    harness.shell.tick()
    await turns()
    assert harness.routed() == ["j1"]


async def test_core_waits_for_late_events_though_a_page_fails() -> None:
    """A single page that cannot be read does not make a substation dead."""
    harness = Harness(confirming(), "s1", "s2")
    begun_unseen(harness, "s1")
    harness.fail_page("s1")
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert harness.routed() == []


async def test_core_waits_for_late_events_before_it_sends_a_copy() -> None:
    """A dispatcher publishes requests again in everyday service."""
    harness = Harness(confirming(), "s1", "s2")
    begun_unseen(harness, "s1")
    harness.queue.bring(body("j1"), "j1", headers={COPY_HEADER: True}, again=True)
    await turns()
    assert harness.routed() == []
    harness.read("s1", 1)
    harness.shell.tick()
    await turns()
    assert harness.routed() == ["j1"]


async def test_core_reads_the_log_again_for_requests_that_waited_for_late_events() -> None:
    """Even if the substation wrote them between two readings, and a copy was judged by then."""
    harness = Harness(confirming(), "s1", "s2", reads_log=True)
    begun_unseen(harness, "s1")
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.queue.bring(body("j2"), "j2", headers={COPY_HEADER: True})
    await turns()
    harness.shell.feed(LogRead(older=False))
    harness.read("s1", 1)
    harness.shell.feed(LogRead(older=True))
    await turns()
    assert harness.routed() == ["j2"]
    asked = harness.shell.feed(Tick(connected=True))
    assert ReadLog(older=False, requests=1) in asked
    harness.shell.feed(LogRead(older=False))
    await turns()
    assert harness.routed() == ["j2", "j1"]


async def test_core_waits_once_for_the_events_of_each_substation() -> None:
    """With many substations there is always one whose last event is under way."""
    harness = Harness(confirming(), "s1", "s2")
    begun_unseen(harness, "s1")
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    begun_unseen(harness, "s2")
    harness.read("s1", 1)
    harness.shell.tick()
    await turns()
    assert harness.routed() == ["j1"]


@pytest.mark.parametrize("link_broke", [False, True])
async def test_core_does_not_wait_for_events_that_never_come(
    link_broke: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not for ever, and anew if the link breaks: what is late then is something else."""
    harness = Harness(confirming(), "s1", "s2")
    begun_unseen(harness, "s1")
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    harness.now += EVENTS_SECONDS - 0.1
    harness.shell.tick()
    if link_broke:
        harness.queue.break_link()
        harness.queue.bring(body("j1"), "j1", again=True)
        await turns()
    harness.now += 0.2
    harness.shell.tick()
    await turns()
    assert harness.routed() == ([] if link_broke else ["j1"])
    harness.now += EVENTS_SECONDS
    harness.shell.tick()
    await turns()
    assert harness.routed() == ["j1"]
    assert caplog.text.count("though events of s1 may be missing") == 1


async def test_core_does_not_wait_for_events_of_a_substation_that_is_gone() -> None:
    """Its page cannot be read, so it counts as dead: its sessions are over."""
    harness = Harness(confirming(), "s1", "s2")
    begun_unseen(harness, "s1")
    harness.fail_page("s1")
    harness.now += 1e10
    harness.read("s2")
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert harness.routed() == ["j1"]
