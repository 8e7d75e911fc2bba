"""Operators' settings: their order with a scripted stream, that they persist with a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from grid import control_log, controls, topology
from grid.amqp import Declarer, Outcome, Publisher, StreamReader
from grid.control_log import RESTATE_AFTER, Change, ControlLog
from grid.controls import Availability, Control, Message
from grid.errors import BrokerUnavailable
from grid.runtime import background
from tests.broker import VirtualHost
from tests.fake_broker import FakePublisher, turns
from tests.grid.gate import gate
from tests.grid.links import TIMEOUT, Listener, Seen, eventually, running

AVAILABLE, DRAINING = Availability.AVAILABLE, Availability.DRAINING
CONTROLS = topology.CONTROLS
MARK = Message()


def to(state: Availability, limit: int | None) -> Change:
    """Return a change that sets both, whatever was before."""
    return lambda before: replace(before, state=state, limit=limit)


def drained(substation: str, version: int = 1) -> Control:
    """Return the control of a draining substation."""
    return Control(substation, DRAINING, None, version)


class Stream:
    """A scripted stream: one log reads back what it publishes when the test says so."""

    def __init__(self) -> None:
        self.publisher = FakePublisher()
        self.reading = asyncio.Event()
        self.reading.set()
        self.changes: list[Control] = []
        self.log = ControlLog(self.publisher, "test", self._changed)

    def _changed(self, substation: str, control: Control) -> None:
        assert control.substation == substation
        self.changes.append(control)

    def bring(self, *several: Control, marker: str = "") -> None:
        """Have a message of another writer be read."""
        self.log.read(controls.encode(Message(several, marker)))

    async def echo(self) -> Message:
        """Confirm the oldest unconfirmed message, have it read, and return it."""
        async with asyncio.timeout(TIMEOUT):
            while not self.publisher.waiting:  # noqa: ASYNC110  # nothing tells of a publish
                await asyncio.sleep(0)
        body = self.publisher.waiting[0].body
        self.publisher.answer(CONTROLS)
        self.log.read(body)
        await turns()
        return controls.decode(body)

    def sent(self) -> list[tuple[Control, ...]]:
        """Return the controls of each message published."""
        return [controls.decode(each.body).controls for each in self.publisher.to(CONTROLS)]


@asynccontextmanager
async def followed() -> AsyncIterator[Stream]:
    """Yield a stream whose log has caught up."""
    stream = Stream()
    async with background(stream.log.run(stream.reading)):
        await stream.echo()
        yield stream


async def test_control_log_has_caught_up_when_it_reads_its_own_mark() -> None:
    """Neither the confirm of its mark nor another's mark shows that all before was read."""
    stream = Stream()
    async with background(stream.log.run(stream.reading)):
        await turns()
        assert stream.sent() == [()]
        stream.publisher.answer(CONTROLS)
        stream.bring(drained("s1"), marker="another's")
        await turns()
        assert not stream.log.caught_up.is_set()
        stream.log.read(stream.publisher.sent[0].body)
        await turns()
        assert stream.log.caught_up.is_set()
    assert stream.changes == [drained("s1")]


async def test_control_log_writes_another_mark_when_one_does_not_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If a mark is returned by RabbitMQ, or never read back, another follows."""
    monkeypatch.setattr(control_log, "MARK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(control_log, "RETRY_SECONDS", 0)
    stream = Stream()
    async with background(stream.log.run(stream.reading)):
        await turns()
        stream.publisher.answer(CONTROLS, Outcome.UNROUTABLE)
        await eventually(lambda: len(stream.publisher.sent) >= 4, "more marks")
        assert not stream.log.caught_up.is_set()
        stream.log.read(stream.publisher.sent[0].body)
        await turns()
        assert not stream.log.caught_up.is_set()  # it waits for a later mark by now
        while not stream.log.caught_up.is_set():
            await stream.echo()


async def test_control_log_writes_no_mark_while_its_reader_is_down() -> None:
    """While the reader's link is down, as at a broker that has no such stream."""
    stream = Stream()
    stream.reading.clear()
    async with background(stream.log.run(stream.reading)):
        await turns()
        assert stream.sent() == []
        stream.reading.set()
        await stream.echo()
        assert stream.log.caught_up.is_set()


async def test_control_log_sets_nothing_before_it_has_caught_up() -> None:
    """Otherwise a change could have a version that is too old."""
    stream = Stream()
    with pytest.raises(BrokerUnavailable, match="still being read"):
        await stream.log.set("s1", to(DRAINING, None), 1)
    assert stream.sent() == []


async def test_control_log_writes_all_controls_with_each_change() -> None:
    """The newest message alone says everything, also what was set back to its default."""
    async with followed() as stream:
        stream.bring(drained("s1"), Control("s2", AVAILABLE, None, 4))
        setting = asyncio.create_task(stream.log.set("s2", to(AVAILABLE, 7), 5))
        message = await stream.echo()
        assert message.controls == (drained("s1"), Control("s2", AVAILABLE, 7, 5))
        assert await setting == stream.log.get("s2") == stream.changes[-1]


async def test_control_log_reports_a_change_once_it_is_read_back() -> None:
    """RabbitMQ's confirm does not show whether another writer's change came before."""
    async with followed() as stream:
        setting = asyncio.create_task(stream.log.set("s1", to(DRAINING, None), 5))
        await turns()
        stream.publisher.answer(CONTROLS)
        await turns()
        assert not setting.done()
        assert stream.changes == []
        stream.log.read(stream.publisher.sent[-1].body)
        assert await setting == drained("s1")


async def test_control_log_repeats_a_change_that_was_overtaken() -> None:
    """A change that was overtaken is not reported as done."""
    async with followed() as stream:
        setting = asyncio.create_task(stream.log.set("s1", to(AVAILABLE, 5), 5))
        await turns()
        stream.bring(drained("s1", 8))
        await stream.echo()
        assert not setting.done()
        await stream.echo()
        assert await setting == Control("s1", AVAILABLE, 5, 9)


async def test_control_log_applies_a_simultaneous_change_to_the_other_apis_state() -> None:
    """Both wrote the same version; fields left out keep what the other has set."""
    async with followed() as stream:
        change = asyncio.create_task(
            stream.log.set("s1", lambda before: replace(before, limit=2), 5),
        )
        await turns()
        stream.bring(drained("s1", 1))
        await stream.echo()
        assert not change.done()
        await stream.echo()
        assert await change == Control("s1", DRAINING, 2, 2)


async def test_control_log_does_not_repeat_a_change_replaced_later() -> None:
    """It is not made again over the later one."""
    async with followed() as stream:
        setting = asyncio.create_task(stream.log.set("s1", to(AVAILABLE, 5), 5))
        await turns()
        stream.publisher.answer(CONTROLS)
        stream.log.read(stream.publisher.sent[-1].body)
        stream.bring(drained("s1", 2))
        assert await setting == Control("s1", AVAILABLE, 5, 1)
        assert stream.log.get("s1") == drained("s1", 2)


async def test_control_log_makes_changes_one_after_another() -> None:
    """The second message includes the first, so that it says everything as well."""
    async with followed() as stream:
        both = [
            asyncio.create_task(stream.log.set(name, to(DRAINING, None), 5))
            for name in ("s1", "s2")
        ]
        assert (await stream.echo()).controls == (drained("s1"),)
        assert (await stream.echo()).controls == (drained("s1"), drained("s2"))
        await asyncio.gather(*both)


async def test_control_log_keeps_both_of_two_simultaneous_changes() -> None:
    """Each applies to the state when its turn comes, not to the state when it was requested."""
    async with followed() as stream:
        both = [
            asyncio.create_task(stream.log.set("s1", change, 5))
            for change in (
                lambda before: replace(before, state=DRAINING),
                lambda before: replace(before, limit=3),
            )
        ]
        await stream.echo()
        assert (await stream.echo()).controls == (Control("s1", DRAINING, 3, 2),)
        await asyncio.gather(*both)


def away(stream: Stream) -> None:
    """Make RabbitMQ unreachable."""
    stream.publisher.up.clear()


def blocked(stream: Stream) -> None:
    """Have RabbitMQ block publishers."""
    stream.publisher.blocked = True


def refused(stream: Stream) -> None:
    """Have RabbitMQ refuse messages."""
    stream.publisher.automatic[CONTROLS] = Outcome.REFUSED


def not_read(stream: Stream) -> None:
    """Have RabbitMQ confirm messages that the reader does not get."""
    stream.publisher.automatic[CONTROLS] = Outcome.CONFIRMED


def silent(_: Stream) -> None:
    """Have RabbitMQ not answer."""


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (away, "away"),
        (blocked, "blocks publishers"),
        (refused, "refused"),
        (not_read, "s1: the change was not read back"),
        (silent, "within 0.05 s"),
    ],
)
async def test_control_log_reports_why_a_change_failed(
    trouble: Callable[[Stream], None], words: str
) -> None:
    """One error with the reason; and nothing is published later that was reported as failed."""
    async with followed() as stream:
        trouble(stream)
        with pytest.raises(BrokerUnavailable, match=words):
            await stream.log.set("s1", to(DRAINING, None), 0.05)
        assert all(each.withdrawn for each in stream.publisher.waiting)
        assert stream.changes == []


@pytest.mark.parametrize("more", [0, 1])
async def test_control_log_restates_controls_after_many_marks(more: int) -> None:
    """If the newest message with controls is far back, all controls are written again."""
    stream = Stream()
    known = drained("s1"), Control("s2", AVAILABLE, None, 2)
    stream.bring(*known)
    for _ in range(RESTATE_AFTER - 1 + more):
        stream.bring(marker="a start of some service")
    async with background(stream.log.run(stream.reading)):
        await stream.echo()
        if more:
            assert (await stream.echo()).controls == known
        await turns()
        assert not stream.publisher.waiting
    assert len(stream.changes) == 2


async def test_control_log_restates_controls_to_a_stream_that_lost_them() -> None:
    """After a break of the reader's link; unless the new stream has them already."""
    async with followed() as stream:
        stream.bring(drained("s1"), drained("s2"))
        stream.log.forget()
        stream.bring(drained("s1"))
        assert (await stream.echo()).controls == ()
        assert (await stream.echo()).controls == (drained("s1"), drained("s2"))
        stream.log.forget()
        stream.bring(drained("s1"), drained("s2"))
        assert (await stream.echo()).controls == ()
        await turns()
        assert not stream.publisher.waiting
        assert stream.log.caught_up.is_set()


async def test_control_log_skips_malformed_messages(caplog: pytest.LogCaptureFixture) -> None:
    """The stream keeps its messages for good, so one bad message must not end every service."""
    async with followed() as stream:
        stream.log.read(b"nonsense")
        assert "skipped a message of charge.controls" in caplog.text
        stream.bring(drained("s1"))
        assert stream.changes == [drained("s1")]


class Follower:
    """A control log at a real RabbitMQ, as a service has it."""

    def __init__(self, url: str, name: str) -> None:
        self.seen = Seen()
        self.known: dict[str, Control] = {}
        self.publisher = Publisher(f"{name}-out", [url], self.seen)
        self.log = ControlLog(self.publisher, name, self.known.__setitem__)
        self.reader = StreamReader(name, [url], self.seen, queue=CONTROLS)

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[Follower]:
        """Run it, and yield it once it has caught up."""
        reading = self.reader.run(read=self.log.read, forget=self.log.forget)
        async with background(self.publisher.run(), reading, self.log.run(self.reader.up)):
            await asyncio.wait_for(self.log.caught_up.wait(), TIMEOUT)
            yield self


@pytest.mark.integration
async def test_control_log_readers_agree_whenever_they_start(vhost: VirtualHost) -> None:
    """Two apis set different substations at once; a dispatcher started later knows both."""
    one, other = (Follower(vhost.url("api"), name) for name in ("api-1", "api-2"))
    async with one.follow(), other.follow():
        await asyncio.gather(
            one.log.set("s1", to(DRAINING, None), TIMEOUT),
            other.log.set("s2", to(AVAILABLE, 3), TIMEOUT),
        )
        expected = {"s1": drained("s1"), "s2": Control("s2", AVAILABLE, 3, 1)}
        await eventually(lambda: one.known == other.known == expected, "both know both")
        async with Follower(vhost.url("dispatcher"), "dispatcher").follow() as late:
            assert late.known == expected
            back = await other.log.set("s1", to(AVAILABLE, None), TIMEOUT)
            await eventually(lambda: late.known["s1"] == one.known["s1"] == back, "all know")
            assert back == Control("s1", AVAILABLE, None, 2)
        assert [seen for each in (one, other, late) for seen in each.seen.ups()] == [True] * 6


@pytest.mark.integration
async def test_control_log_survives_a_restart_of_rabbitmq(vhost: VirtualHost) -> None:
    """A restart of the node keeps it, and its readers go on by themselves."""
    async with Follower(vhost.url("api"), "api-1").follow() as one:
        await one.log.set("s1", to(DRAINING, None), TIMEOUT)
        await asyncio.to_thread(vhost.broker.restart)
        await asyncio.wait_for(one.publisher.up.wait(), TIMEOUT)
        async with AsyncExitStack() as stack:
            new = Follower(vhost.url("dispatcher"), "dispatcher")
            async with asyncio.timeout(TIMEOUT):
                await stack.enter_async_context(new.follow())
            assert new.known == {"s1": drained("s1")}
            await asyncio.wait_for(one.reader.up.wait(), TIMEOUT)
            await one.log.set("s1", to(AVAILABLE, 2), TIMEOUT)
            await eventually(lambda: new.known["s1"].limit == 2, "the new one knows")


@pytest.mark.integration
@pytest.mark.parametrize("cut_off", [False, True])
async def test_control_log_restates_controls_to_a_redeclared_stream(
    vhost: VirtualHost,
    cut_off: bool,  # noqa: FBT001
) -> None:
    """If the stream is deleted, a service writes everything again, also if it was cut off then."""
    listener = Listener(vhost.url("api"), CONTROLS, "first")
    async with (
        gate(vhost.url("api")) as proxy,
        Follower(proxy.url, "api-1").follow() as one,
        running(Declarer("declarer", [vhost.url()], Seen())) as declarer,
    ):
        for _ in range(3):
            await one.log.set("s1", to(DRAINING, None), TIMEOUT)
        if cut_off:
            await proxy.close()
        path = f"/api/queues/{quote(vhost.name)}/{CONTROLS}"
        await asyncio.to_thread(vhost.broker.request, "DELETE", path)
        await eventually(lambda: not one.reader.connected, "the link breaks")
        await declarer.queue(topology.CONTROLS_STREAM)
        if cut_off:
            await proxy.open()
        async with listener.running():
            expected = encode_of(drained("s1", 3))
            await eventually(
                lambda: any(expected in each for each in listener.bodies), "it is told"
            )


def encode_of(control: Control) -> bytes:
    """Return a control as it is encoded in a message."""
    return controls.encode(Message((control,)))[len(b'{"controls":[') : -len(b"]}")]
