"""Publishing to a real RabbitMQ: every message has an outcome."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from time import monotonic

import pytest

from grid import provenance, topology
from grid.amqp import Declarer, Outcome, Publisher
from grid.amqp.publisher import MAX_BODY
from grid.errors import BrokerUnavailable
from tests.broker import VirtualHost
from tests.grid.gate import gate
from tests.grid.links import Recorder, Seen, eventually, properties, running, started

pytestmark = pytest.mark.integration

REQUESTS = (topology.REQUESTS_EXCHANGE, topology.REQUESTS)
NOWHERE = (topology.SUBSTATIONS_EXCHANGE, "substation-that-is-not")

Answers = list[tuple[str, Outcome]]


def publish(
    publisher: Publisher, ids: list[str], answers: Answers, where: tuple[str, str] = REQUESTS
) -> None:
    """Publish messages, each with its id as its body, and record their outcomes."""
    for each in ids:
        done = partial(lambda sent, outcome: answers.append((sent, outcome)), each)
        publisher.publish(*where, each.encode(), done, id=each)


def numbered(prefix: str, count: int) -> list[str]:
    """Return numbered ids."""
    return [f"{prefix}-{number}" for number in range(count)]


@pytest.fixture
async def publisher(vhost: VirtualHost) -> AsyncIterator[Publisher]:
    """Yield a publisher that is connected, with all permissions."""
    async with running(Publisher("publisher", [vhost.url()], Seen())) as link:
        yield link


async def waiting(vhost: VirtualHost, queue: topology.Queue) -> int:
    """Return how many messages are ready in a queue now."""
    async with running(Declarer("counter", [vhost.url()], Seen())) as link:
        return (await link.queue(queue)).ready


async def test_publisher_reports_a_confirmed_message_that_arrived_whole(
    vhost: VirtualHost, publisher: Publisher
) -> None:
    """A confirmed message is in the queue with its body, id and headers."""
    answers: Answers = []
    publisher.publish(
        *REQUESTS,
        b"\x00body\xff",
        lambda outcome: answers.append(("a", outcome)),
        id="a",
        headers={"x-why": "moved", "attempt": 2},
    )
    await asyncio.wait_for(publisher.drained(), 10)
    assert answers == [("a", Outcome.CONFIRMED)]
    assert publisher.backlog == 0
    recorder = Recorder(vhost.url("dispatcher"), topology.REQUESTS)
    async with recorder.running():
        await eventually(lambda: recorder.deliveries, "the message arrives")
    (found,) = recorder.deliveries
    assert (found.body, found.id, found.redelivered) == (b"\x00body\xff", "a", False)
    assert found.headers == {"x-why": "moved", "attempt": 2}


async def test_publisher_sends_the_priority_as_a_property(
    vhost: VirtualHost, publisher: Publisher
) -> None:
    """A message has the property ``priority`` only if one is given."""
    publisher.publish(*REQUESTS, b"", lambda _: None, id="urgent", priority=9)
    await publisher.confirmed(*REQUESTS, b"", id="rather", timeout=10, priority=4)
    await publisher.confirmed(*REQUESTS, b"", id="any", timeout=10)
    found = await asyncio.to_thread(properties, vhost.url("dispatcher"), topology.REQUESTS, 3)
    priorities = {each.message_id: each.priority for each in found}
    assert priorities == {"urgent": 9, "rather": 4, "any": None}


async def test_publisher_matches_each_message_with_its_own_outcome(publisher: Publisher) -> None:
    """Among many in flight, unroutable messages are told from confirmed ones."""
    answers: Answers = []
    good, lost = numbered("good", 200), numbered("lost", 200)
    for one, other in zip(good, lost, strict=True):
        publish(publisher, [one], answers)
        publish(publisher, [other], answers, NOWHERE)
    assert publisher.backlog == 400
    await asyncio.wait_for(publisher.drained(), 10)
    assert len(answers) == 400
    assert dict(answers) == {
        **dict.fromkeys(good, Outcome.CONFIRMED),
        **dict.fromkeys(lost, Outcome.UNROUTABLE),
    }


async def test_publisher_reports_a_nack_of_a_full_queue(
    vhost: VirtualHost, publisher: Publisher
) -> None:
    """A message that a full queue refused is never reported as confirmed."""
    queue = topology.Queue(
        "small",
        topology.REQUESTS_EXCHANGE,
        "small",
        {"x-max-length": 1, "x-overflow": "reject-publish"},
    )
    assert await waiting(vhost, queue) == 0
    answers: Answers = []
    publish(publisher, ["first"], answers, (topology.REQUESTS_EXCHANGE, "small"))
    await asyncio.wait_for(publisher.drained(), 10)
    publish(publisher, ["second", "third"], answers, (topology.REQUESTS_EXCHANGE, "small"))
    await asyncio.wait_for(publisher.drained(), 10)
    assert dict(answers) == {
        "first": Outcome.CONFIRMED,
        "second": Outcome.REFUSED,
        "third": Outcome.REFUSED,
    }
    with pytest.raises(BrokerUnavailable, match=r"fourth on charge\.requests\.in: refused"):
        await publisher.confirmed(topology.REQUESTS_EXCHANGE, "small", b"", id="fourth", timeout=10)
    assert await waiting(vhost, queue) == 1


async def test_publisher_confirmed_returns_once_rabbitmq_has_the_message(
    publisher: Publisher,
) -> None:
    """``confirmed`` returns once RabbitMQ has the message, and raises if it has not."""
    await publisher.confirmed(*REQUESTS, b"", id="a", timeout=10)
    with pytest.raises(BrokerUnavailable, match=r"b on charge\.substations: unroutable"):
        await publisher.confirmed(*NOWHERE, b"", id="b", timeout=10)


async def test_publisher_does_not_publish_a_message_given_up_while_its_link_was_down(
    vhost: VirtualHost,
) -> None:
    """A client that was answered 503 tries again, so its first attempt must not arrive as well."""
    publisher = Publisher("publisher", [vhost.url()], Seen())
    with pytest.raises(BrokerUnavailable, match=r"not confirmed given-up on .* within 0\.05 s"):
        await publisher.confirmed(*REQUESTS, b"", id="given-up", timeout=0.05)
    with pytest.raises(TimeoutError):  # the caller's own limit
        async with asyncio.timeout(0.05):
            await publisher.confirmed(*REQUESTS, b"", id="given-up", timeout=60)
    answers: Answers = []
    publish(publisher, ["kept"], answers)
    async with running(publisher):
        await asyncio.wait_for(publisher.drained(), 10)
    assert answers == [("kept", Outcome.CONFIRMED)]
    recorder = Recorder(vhost.url("dispatcher"), topology.REQUESTS)
    async with recorder.running():
        await eventually(lambda: recorder.deliveries, "the other message arrives")
        assert await waiting(vhost, topology.REQUESTS_QUEUE) == 0
    assert recorder.ids == ["kept"]


async def test_publisher_does_not_repeat_a_message_given_up_in_flight(vhost: VirtualHost) -> None:
    """The same for a message in flight when the link broke: it arrives once, not twice."""
    async with (
        gate(vhost.url()) as proxy,
        running(Publisher("publisher", [proxy.url], Seen())) as publisher,
    ):
        proxy.dropping_answers = True
        with pytest.raises(BrokerUnavailable):
            await publisher.confirmed(*REQUESTS, b"", id="given-up", timeout=0.2)
        assert publisher.backlog == 1
        await proxy.reopen()
        await publisher.confirmed(*REQUESTS, b"", id="next", timeout=10)
    assert await waiting(vhost, topology.REQUESTS_QUEUE) == 2


async def test_publisher_keeps_order_of_messages_while_its_link_is_down(vhost: VirtualHost) -> None:
    """What is published while RabbitMQ is away goes out in order once it is back."""
    ids, answers = numbered("early", 50), Answers()
    async with gate(vhost.url()) as proxy:
        await proxy.close()
        async with started(Publisher("publisher", [proxy.url], Seen())) as publisher:
            publish(publisher, ids, answers)
            assert publisher.backlog == 50
            await proxy.open()
            await asyncio.wait_for(publisher.drained(), 10)
    assert answers == [(each, Outcome.CONFIRMED) for each in ids]
    recorder = Recorder(vhost.url("dispatcher"), topology.REQUESTS)
    async with recorder.running():
        await eventually(lambda: len(recorder.ids) == 50, "all arrive")
    assert recorder.ids == ids


async def test_publisher_repeats_unconfirmed_messages_under_their_ids(vhost: VirtualHost) -> None:
    """If confirms were lost with the link, messages arrive twice but have one outcome each."""
    ids, answers, seen = numbered("twice", 20), Answers(), Seen()
    recorder = Recorder(vhost.url("dispatcher"), topology.REQUESTS)
    async with (
        gate(vhost.url()) as proxy,
        running(Publisher("publisher", [proxy.url], seen)) as publisher,
        recorder.running(),
    ):
        proxy.dropping_answers = True
        publish(publisher, ids, answers)
        await eventually(lambda: len(recorder.ids) == 20, "the first copies arrive")
        assert answers == []
        assert publisher.backlog == 20
        await proxy.reopen()
        await asyncio.wait_for(publisher.drained(), 10)
        await eventually(lambda: len(recorder.ids) == 40, "the second copies arrive")
    assert answers == [(each, Outcome.CONFIRMED) for each in ids]
    assert Counter(recorder.ids) == dict.fromkeys(ids, 2)
    assert seen.ups()[:2] == [True, False]
    assert seen.ups()[-1] is True


async def test_publisher_abandons_unconfirmed_messages_no_longer_wanted(vhost: VirtualHost) -> None:
    """It is not published again, and its sender learns so; the others are published."""
    answers: dict[str, Outcome] = {}
    async with (
        gate(vhost.url()) as proxy,
        running(Publisher("publisher", [proxy.url], Seen())) as publisher,
    ):
        proxy.dropping_answers = True
        for name, wanted in (("kept", True), ("left", False)):
            publisher.publish(
                topology.REQUESTS_EXCHANGE,
                topology.REQUESTS,
                name.encode(),
                partial(answers.__setitem__, name),
                id=name,
                wanted=partial(bool, wanted),
            )
        await proxy.reopen()
        await eventually(lambda: len(answers) == 2, "both are answered")
        assert answers == {"kept": Outcome.CONFIRMED, "left": Outcome.ABANDONED}
        assert publisher.backlog == 0


async def test_publisher_uses_the_next_address_when_confirms_do_not_come(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that stays up but confirms nothing is replaced, and its messages published again."""
    monkeypatch.setattr("grid.amqp.suspicion.ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr("grid.amqp.publisher.CHECK_INTERVAL", 0.1)
    answers, seen = Answers(), Seen()
    async with (
        gate(vhost.url()) as proxy,
        running(Publisher("publisher", [proxy.url, vhost.url()], seen)) as publisher,
    ):
        proxy.dropping_answers = True
        publish(publisher, ["a", "b"], answers)
        await asyncio.wait_for(publisher.drained(), 10)
        assert answers == [("a", Outcome.CONFIRMED), ("b", Outcome.CONFIRMED)]
        assert seen.ups() == [True, False, True]
        assert "has not answered for a message" in seen.reasons()[1]
        assert proxy.accepted == 1


async def test_publisher_backs_off_when_a_message_closes_the_channel_each_time(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that closes the channel is tried again, but not a hundred times a second."""
    monkeypatch.setattr("grid.amqp.link.LIFE_LEAST_SECONDS", 0.3)
    async with (
        gate(vhost.url()) as proxy,
        running(Publisher("publisher", [proxy.url], Seen())) as publisher,
    ):
        began = monotonic()
        answers: Answers = []
        publish(publisher, ["early"], answers, ("not-declared-yet", "a"))
        await eventually(lambda: proxy.accepted == 3, "two more attempts")
        assert monotonic() - began > 0.5
        async with running(Declarer("declarer", [vhost.url()], Seen())) as declarer:
            await declarer.exchange("not-declared-yet", "direct")
        await asyncio.wait_for(publisher.drained(), 10)
    assert answers == [("early", Outcome.UNROUTABLE)]


async def test_publisher_refuses_a_body_over_rabbitmqs_limit(publisher: Publisher) -> None:
    """A body over the limit would close the channel, and every channel after it."""
    answers: list[Outcome] = []
    body = b" " * (MAX_BODY + 1)
    publisher.publish(topology.EVENTS_EXCHANGE, provenance.API, body, answers.append, id="large")
    await eventually(lambda: bool(answers), "it is answered")
    assert answers == [Outcome.REFUSED]
    assert publisher.connected
    assert publisher.backlog == 0


async def test_publisher_reports_two_returned_messages_of_one_id(publisher: Publisher) -> None:
    """With one id and one routing key without a queue, neither counts as confirmed."""
    answers: list[Outcome] = []
    for _ in range(2):
        publisher.publish(
            topology.SUBSTATIONS_EXCHANGE, "nowhere", b"{}", answers.append, id="same"
        )
    await eventually(lambda: len(answers) == 2, "both are answered")
    assert answers == [Outcome.UNROUTABLE] * 2


async def test_publisher_reports_a_missing_queue_until_a_message_is_routed(
    publisher: Publisher,
) -> None:
    """Until a message is routed there: a publisher may not be allowed to look at the queue."""
    answers: list[Outcome] = []
    requests = topology.REQUESTS_EXCHANGE, topology.REQUESTS
    nowhere = topology.SUBSTATIONS_EXCHANGE, "nowhere"
    for exchange, key in (requests, nowhere):
        publisher.publish(exchange, key, b"{}", answers.append, id="one")
    await eventually(lambda: len(answers) == 2, "both are answered")
    assert publisher.returned_within(60, *nowhere)
    assert not publisher.returned_within(60, *requests)
    await asyncio.sleep(0.02)
    assert not publisher.returned_within(0.01, *nowhere)
