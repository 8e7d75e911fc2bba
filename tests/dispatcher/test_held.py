"""Redelivered requests wait until the event log shows whether another dispatcher sent them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher import shell
from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER
from dispatcher.recognition import Recognition
from grid.amqp import Outcome
from grid.events import Event, State
from grid.topology import EVENTS, SUBSTATIONS_EXCHANGE
from tests.dispatcher.harness import AT, Bench, always, body, confirming
from tests.fake_broker import FakePublisher, turns


class Log:
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
async def doubting(log: Log) -> AsyncIterator[Bench]:
    """Yield a dispatcher that has to read the log first."""
    bench = Bench(confirming(), "s1", reads_log=True)
    task = asyncio.create_task(bench.shell.run(log, log, always))
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_another_has_sent_goes_to_the_same_place() -> None:
    """What the log shows meanwhile is followed: here the job has ended, so it is not sent."""
    log = Log()
    async with doubting(log) as bench:
        bench.queue.bring(body("j1"), "j1", again=True)
        await turns()
        assert bench.routed() == []
        bench.index.apply(Event(State.COMPLETED, AT, "j1", "s1", 1))
        log.read.set()
        await turns()
        assert bench.routed() == []
        assert bench.queue.acked == [1]


async def test_what_nobody_has_sent_is_sent_once_that_is_known() -> None:
    """A request that is delivered for the first time does not wait for the log."""
    log = Log()
    async with doubting(log) as bench:
        bench.queue.bring(body("j1"), "j1", again=True)
        bench.queue.bring(body("j2"), "j2")
        await turns()
        assert bench.routed() == ["j2"]
        log.read.set()
        await turns()
        assert bench.routed() == ["j2", "j1"]


async def test_what_comes_while_the_log_is_read_has_it_read_once_more() -> None:
    """It may have been sent since the log was asked: one more reading serves all that came."""
    log = Log()
    async with doubting(log) as bench:
        for job in ("j1", "j2", "j3"):
            bench.queue.bring(body(job), job, again=True)
            await turns()
        log.read.set()
        await turns()
        assert (bench.routed(), log.asked) == (["j1"], 2)
        log.read.set()
        await turns()
        assert bench.routed() == ["j1", "j2", "j3"]


async def test_what_is_known_here_waits_for_nobody() -> None:
    """A job that this dispatcher sent itself is acknowledged at once when it is redelivered."""
    log = Log()
    async with doubting(log) as bench:
        bench.queue.bring(body("j1"), "j1")
        await turns()
        bench.queue.break_link()
        bench.queue.bring(body("j1"), "j1", again=True)
        await turns()
        assert (bench.routed(), log.asked) == (["j1"], 0)


async def test_a_link_that_breaks_takes_them_with_it() -> None:
    """RabbitMQ redelivers the requests, and none is decided twice."""
    log = Log()
    async with doubting(log) as bench:
        bench.queue.bring(body("j1"), "j1", again=True)
        await turns()
        bench.queue.break_link()
        bench.queue.bring(body("j1"), "j1", again=True)
        log.read.set()
        await turns()
        assert bench.routed() == []
        log.read.set()
        await turns()
        assert bench.routed() == ["j1"]
        assert bench.queue.acked == [1]


async def test_dispatcher_sends_none_of_them_while_the_log_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another dispatcher may have sent them, so they wait, however long; a warning says so."""
    monkeypatch.setattr(shell, "SLOW_SECONDS", 0.01)
    log = Log()
    async with doubting(log) as bench:
        bench.queue.bring(body("j1"), "j1", again=True)
        async with asyncio.timeout(20):
            while shell.NOT_READ % 1 not in caplog.text:  # noqa: ASYNC110  # it sets no event
                await asyncio.sleep(0.005)
        assert bench.routed() == []
        assert bench.work.in_hand().jobs == {"j1"}
        log.read.set()
        await turns()
        assert bench.routed() == ["j1"]
        assert not bench.core.held


async def test_what_is_in_doubt_and_not_ones_own_any_more_is_let_go() -> None:
    """A message without a live delivery is abandoned: RabbitMQ redelivers its request."""
    bench = Bench(FakePublisher(), "s1")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    [sent] = bench.publisher.to(SUBSTATIONS_EXCHANGE)
    assert sent.wanted()
    bench.queue.break_link()
    assert not sent.wanted()
    bench.publisher.answer(SUBSTATIONS_EXCHANGE, Outcome.ABANDONED)
    await turns()
    assert bench.tracker.substations["s1"].load == 0
    bench.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert bench.routed() == ["j1", "j1"]


async def test_what_is_in_doubt_and_brought_again_by_then_is_kept() -> None:
    """The delivery that came before the message was abandoned belongs to the job now."""
    bench = Bench(FakePublisher(), "s1")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.queue.break_link()
    bench.queue.bring(body("j1"), "j1", again=True)
    bench.publisher.answer(SUBSTATIONS_EXCHANGE, Outcome.ABANDONED)
    await turns()
    assert bench.routed() == ["j1", "j1"]
    bench.publisher.answer(SUBSTATIONS_EXCHANGE)
    bench.publisher.answer(EVENTS)
    bench.publisher.answer(EVENTS)
    await turns()
    assert bench.queue.acked == [1]


@pytest.mark.parametrize("headers", [None, {COPY_HEADER: True}], ids=["again", "a copy"])
async def test_a_mistake_over_a_request_that_was_held_puts_it_aside(
    headers: dict[str, object] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service ends; the request is rejected, so the next one does not fail on it as well."""
    log = Log()
    bench = Bench(confirming(), "s1", reads_log=True)
    task = asyncio.create_task(bench.shell.run(log, log, always))
    bench.queue.bring(body("poison"), "poison", again=headers is None, headers=headers)
    await turns()
    monkeypatch.setattr(Recognition, "request", fails)
    log.read.set()
    with pytest.raises(KeyError):
        await asyncio.wait_for(task, 5)
    assert bench.queue.rejected == [1]


async def test_a_mistake_over_a_request_that_came_early_puts_it_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same for a request delivered before the dispatcher had begun."""
    bench = Bench(confirming(), "s1", begun=False)
    bench.queue.bring(body("poison"), "poison")
    await turns()
    monkeypatch.setattr(Recognition, "request", fails)
    with pytest.raises(KeyError):
        bench.begin()
    assert bench.queue.rejected == [1]


def fails(*_: object) -> bool:
    """Fail with an error."""
    raise KeyError("some mistake")


@pytest.mark.parametrize("written", [{"a": 1}, ["s1"], 7, b"s1", None])
async def test_a_header_of_a_stranger_does_no_harm(written: object) -> None:
    """A header that is not a text is ignored: any publisher may have set it."""
    log = Log()
    async with doubting(log) as bench:
        bench.queue.bring(body("j1"), "j1", headers={RECLAIMED_HEADER: written})
        await turns()
        assert bench.routed() == ["j1"]
