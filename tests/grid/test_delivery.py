"""A delivery acknowledges itself: once, on the channel that brought it, and in few frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import spec

from grid.amqp import Consumer, Delivery, StreamReader, frames
from grid.amqp.acknowledger import Acknowledger
from grid.amqp.link import settle
from grid.amqp.stream import ACK_EVERY
from tests.fake_broker import Settled, raise_violations, soon, turns
from tests.grid.amqp_peer import Peer, PeerConnection, peer
from tests.grid.links import Seen, eventually, running

ENDS: dict[str, Callable[[Delivery], None]] = {
    "ack": Delivery.ack,
    "requeue": Delivery.requeue,
    "reject": Delivery.reject,
}
GAP_SECONDS = 0.05


class Channel:
    """RabbitMQ's end of a channel: what is outstanding, and its rule that nothing ends twice."""

    def __init__(self, gap_seconds: float = 0.0) -> None:
        self.frames: list[bytes] = []
        self.outstanding: dict[int, Delivery] = {}
        self.ended: list[tuple[str, int]] = []  # how, and which
        self.acknowledger = Acknowledger(1, self._receive, soon, gap_seconds=gap_seconds)

    def deliver(self, count: int = 1) -> list[Delivery]:
        """Deliver so many messages more."""
        found = []
        for _ in range(count):
            tag = len(self.ended) + len(self.outstanding) + 1
            self.acknowledger.delivered(tag)
            one = Delivery(self.acknowledger, tag, b"", queue="q", id=str(tag), headers={})
            self.outstanding[tag] = one
            found.append(one)
        return found

    def delivered(self) -> set[int]:
        """Return the tags of all that was delivered."""
        return self.outstanding.keys() | {tag for _, tag in self.ended}

    def _receive(self, frame: bytes) -> None:
        self.frames.append(frame)
        settled = Settled.by(frame, self.outstanding)
        for tag in settled.tags:
            del self.outstanding[tag]
            self.ended.append((settled.how, tag))


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
async def test_delivery_is_settled_once(first: str, second: str) -> None:
    """RabbitMQ would close the channel over a second acknowledgement."""
    channel = Channel()
    (one,) = channel.deliver()
    assert one.is_live
    ENDS[first](one)
    assert not one.is_live
    ENDS[second](one)
    await turns()
    ENDS[second](one)
    await turns()
    assert channel.ended == [(first, 1)]
    assert len(channel.frames) == 1


@pytest.mark.parametrize("end", ENDS)
async def test_delivery_of_a_closed_channel_sends_nothing(end: str) -> None:
    """RabbitMQ has the message back, and delivers it again, perhaps to another."""
    channel = Channel()
    one, other = channel.deliver(2)
    other.ack()  # which is not sent yet
    channel.acknowledger.end()
    assert not one.is_live
    ENDS[end](one)
    await turns()
    assert channel.frames == []
    assert len(channel.acknowledger) == 0


async def test_acknowledgements_of_one_turn_are_one_frame() -> None:
    """Whatever their order, nothing is sent before the turn ends, and everything by then."""
    channel = Channel()
    deliveries = channel.deliver(5)
    for each in (deliveries[2], deliveries[0], deliveries[1]):
        each.ack()
    assert channel.frames == []
    await turns(2)
    assert channel.frames == [frames.ack(1, 3, multiple=True)]
    assert len(channel.acknowledger) == 2


async def test_acknowledgement_behind_a_delivery_in_hand_goes_alone() -> None:
    """One that takes long must not hold up the others, nor be acknowledged with them."""
    channel = Channel()
    _, second, third = channel.deliver(3)
    third.ack()
    second.ack()
    await turns(2)
    assert channel.frames == [frames.ack(1, 2), frames.ack(1, 3)]


async def test_acknowledgement_waits_for_those_before_it_if_a_gap_is_allowed() -> None:
    """One frame does for all of them where the gap closes in time; it does not wait for ever."""
    channel = Channel(gap_seconds=GAP_SECONDS)
    first, second, _, fourth = channel.deliver(4)
    second.ack()
    await turns()
    assert channel.frames == []
    first.ack()
    fourth.ack()
    await eventually(lambda: len(channel.ended) == 3, "all are acknowledged")
    assert channel.frames == [frames.ack(1, 2, multiple=True), frames.ack(1, 4)]


@pytest.mark.parametrize("end", ["requeue", "reject"])
async def test_requeue_is_sent_behind_earlier_acknowledgements(end: str) -> None:
    """At once, in the order in which they were settled; the gap that it leaves is none."""
    channel = Channel(gap_seconds=GAP_SECONDS)
    first, second, third, fourth, fifth = channel.deliver(5)
    first.ack()
    fourth.ack()
    ENDS[end](third)
    assert channel.ended == [("ack", 1), ("ack", 4), (end, 3)]
    fifth.ack()
    second.ack()
    await turns(2)
    assert channel.ended[3:] == [("ack", 2), ("ack", 5)]
    assert len(channel.frames) == 4


async def test_flush_sends_acknowledgements_behind_a_gap() -> None:
    """A service that ends must not leave finished work to be redelivered."""
    channel = Channel(gap_seconds=3_600)
    deliveries = channel.deliver(4)
    for each in (deliveries[0], deliveries[1], deliveries[3]):
        each.ack()
    channel.acknowledger.flush()
    assert channel.ended == [("ack", 1), ("ack", 2), ("ack", 4)]
    await turns()
    assert len(channel.frames) == 2


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "deliver", "turn", "flush", "end", *ENDS, *ENDS]),
        st.integers(0, 999),
    ),
    max_size=80,
)


@given(STEPS, st.sampled_from([0.0, 1e-6]))
def test_delivery_is_settled_once_in_any_order_of_events(
    steps: list[tuple[str, int]], gap_seconds: float
) -> None:
    """In any order: each delivery ends as it was told first, and only what was told ends.

    Nothing is sent for a delivery of a channel that is gone: not for what was acknowledged on it
    before and still waited, nor for what is settled later.
    """
    asyncio.run(_go_through(steps, gap_seconds))


async def _go_through(steps: list[tuple[str, int]], gap_seconds: float) -> None:
    failed: list[object] = []  # in callbacks of the loop
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    story = Story(gap_seconds)
    for step, number in steps:
        if step == "turn":
            await turns(1)
        else:
            story.go_on(step, number)
        story.check()
    story.channel.acknowledger.flush()
    await turns()
    story.check()
    assert failed == []
    raise_violations()
    settled, channel = story.settled, story.channel
    assert {tag: how for how, tag in channel.ended} == settled
    assert channel.outstanding.keys() == channel.delivered() - settled.keys()


class Story:
    """One channel after the other, and the deliveries of all of them."""

    def __init__(self, gap_seconds: float) -> None:
        self._gap_seconds = gap_seconds
        self.channel = Channel(gap_seconds)
        self.settled: dict[int, str] = {}  # what was first done with deliveries of this channel
        self._pool: list[tuple[Channel, Delivery]] = []
        self._gone: list[tuple[Channel, list[bytes]]] = []  # with the frames until they went

    def go_on(self, step: str, number: int) -> None:
        """Do a step; a number says to how many deliveries, or to which."""
        if step == "deliver":
            self._pool += [(self.channel, e) for e in self.channel.deliver(number % 3 + 1)]
        elif step == "flush":
            self.channel.acknowledger.flush()
        elif step == "end":
            self.channel.acknowledger.end()
            self._gone.append((self.channel, list(self.channel.frames)))
            self.channel, self.settled = Channel(self._gap_seconds), {}
        elif self._pool:
            channel, one = self._pool[number % len(self._pool)]
            assert one.is_live == (channel is self.channel and int(one.id or 0) not in self.settled)
            ENDS[step](one)
            assert not one.is_live
            if channel is self.channel:
                self.settled.setdefault(int(one.id or 0), step)

    def check(self) -> None:
        """Compare what RabbitMQ was sent with what was done first."""
        ended = self.channel.ended
        assert {tag: how for how, tag in ended}.items() <= self.settled.items()
        given_back = [tag for tag, how in self.settled.items() if how != "ack"]
        assert [tag for how, tag in ended if how != "ack"] == given_back
        for channel, until in self._gone:
            assert channel.frames == until, "a channel that is gone sends nothing"
            assert len(channel.acknowledger) == 0


# over a link


def settled(by: PeerConnection) -> list[tuple[str, int]]:
    """Return what a client has acknowledged and given back, in its order."""
    kinds = {spec.Basic.Ack: "ack", spec.Basic.Nack: "nack"}
    return [(kinds[type(e)], e.delivery_tag) for e in by.received if type(e) in kinds]


def consumer(*peers: Peer) -> Consumer:
    """Make a consumer of one peer after the other."""
    return Consumer("consumer", [e.url for e in peers], Seen(), queue="q", prefetch=10)


@pytest.mark.parametrize("end", ENDS)
async def test_delivery_of_an_old_channel_settles_nothing_on_the_new_one(end: str) -> None:
    """Its number there is another message's, which its owner may have in hand."""
    came: list[Delivery] = []
    live_when_lost: list[bool] = []
    async with peer() as one, peer() as other:
        one.consumed = other.consumed = lambda to: to.deliver(b"x", f"m{len(came)}")
        link = consumer(one, other)
        lost = lambda: live_when_lost.append(came[0].is_live)  # noqa: E731
        async with running(link, link.run(deliver=came.append, lost=lost)):
            assert came[0].is_live
            settle(link._broken, "RabbitMQ has not answered")  # noqa: SLF001
            assert came[0].is_live, "nobody was told yet"
            await eventually(lambda: len(came) == 2, "the new channel has delivered")
            old, new = came
            assert (old.is_live, new.is_live) == (False, True)
            ENDS[end](old)
            assert link.unsettled == 1
            new.ack()
            [second] = other.connections
            await eventually(lambda: settled(second), "the new one is acknowledged")
            await asyncio.sleep(0.05)  # for what might still come
            assert settled(second) == [("ack", 1)]
            assert settled(one.connections[0]) == []
    assert live_when_lost == [False]


async def test_link_that_ends_sends_pending_acknowledgements() -> None:
    """Also what waited for those before it; a connection that closes has it all before."""
    came: list[Delivery] = []

    def consumed(to: PeerConnection) -> None:
        for number in range(3):
            to.deliver(b"x", f"m{number}")

    async with peer() as one:
        one.consumed = consumed
        url, seen = [one.url], Seen()
        link = Consumer("consumer", url, seen, queue="q", prefetch=10, gap_seconds=3_600)
        async with running(link, link.run(deliver=came.append)):
            await eventually(lambda: len(came) == 3, "all are delivered")
            came[2].ack()
            await turns()
        [first] = one.connections
        await eventually(
            lambda: any(isinstance(e, spec.Connection.Close) for e in first.received), "it closes"
        )
        assert settled(first) == [("ack", 3)]
        assert not came[0].is_live
        came[0].ack()


async def test_consumer_does_not_reject_a_settled_delivery_when_its_callback_fails() -> None:
    """The error came after the acknowledgement: a reject would close the channel."""
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    def deliver(delivery: Delivery) -> None:
        delivery.ack()
        raise KeyError("some mistake")

    async with peer() as one:
        one.consumed = lambda to: to.deliver(b"x", "m")
        link = consumer(one)
        async with running(link, link.run(deliver=deliver)):
            await eventually(lambda: settled(one.connections[0]), "it is acknowledged")
            await asyncio.sleep(0.05)  # for what might still come
        assert settled(one.connections[0]) == [("ack", 1)]
    assert len(errors) == 1


async def test_stream_reader_acknowledges_many_at_once() -> None:
    """One frame acknowledges all that were read since the last, and none stays for ever."""
    read: list[bytes] = []

    def consumed(to: PeerConnection) -> None:
        for offset in range(2 * ACK_EVERY + 3):
            to.deliver(b"%d" % offset, "", {"x-stream-offset": offset})

    async with peer() as one:
        one.consumed = consumed
        link = StreamReader("reader", [one.url], Seen(), queue="s")
        async with running(link, link.run(read=lambda body, _: read.append(body))):
            await eventually(lambda: len(read) == 2 * ACK_EVERY + 3, "all is read")
            [first] = one.connections
            await eventually(lambda: len(settled(first)) == 2, "most is acknowledged")
        assert settled(first) == [
            ("ack", ACK_EVERY),
            ("ack", 2 * ACK_EVERY),
            ("ack", 2 * ACK_EVERY + 3),
        ]
        assert all(e.multiple for e in first.received if isinstance(e, spec.Basic.Ack))
