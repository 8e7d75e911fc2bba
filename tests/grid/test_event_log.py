"""Writing the event log: in order, many at once, and each with an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid import event_log, events, provenance, topology
from grid.amqp import Outcome, Publisher
from grid.event_log import EventWriter, WrittenMessages
from grid.events import Event, State


class FakePublisher:
    """A publisher that keeps what is published, and answers when told to."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.ids: list[str] = []
        self.targets: list[tuple[str, str]] = []
        self.answers: list[Callable[[Outcome], None]] = []

    async def drained(self) -> None:
        """Return at once: nothing is unconfirmed."""

    def before_flush(self, call: Callable[[], None]) -> None:
        """Call back in the next turn of the loop."""
        asyncio.get_running_loop().call_soon(call)

    def publish(
        self, exchange: str, key: str, body: bytes, done: Callable[[Outcome], None], *, id: str
    ) -> None:
        """Record a message."""
        self.targets.append((exchange, key))
        self.bodies.append(body)
        self.answers.append(done)
        self.ids.append(id)


def writer() -> tuple[FakePublisher, EventWriter]:
    """Return a writer and the publisher it writes to."""
    fake = FakePublisher()
    return fake, EventWriter(cast(Publisher, fake), "test", provenance.API)


def event(number: int) -> Event:
    """Return an event that differs from others."""
    return Event(State.QUEUED, float(number), job=f"job-{number}")


async def turn() -> None:
    """Let the loop go round."""
    await asyncio.sleep(0)


async def test_event_writer_joins_events_of_one_turn_in_one_message() -> None:
    """Hundreds of events in one turn of the loop are one message, in their order."""
    fake, log = writer()
    several = [event(number) for number in range(event_log.MESSAGE_EVENTS - 1)]
    for each in several:
        log.write(each)
    assert fake.bodies == []
    await turn()
    assert [events.decode(body) for body in fake.bodies] == [several]
    assert fake.targets == [(topology.EVENTS_EXCHANGE, provenance.API)]


async def test_event_writer_bounds_the_size_of_a_message() -> None:
    """However many events one turn has, no message is too large for RabbitMQ."""
    fake, log = writer()
    several = [event(number) for number in range(2 * event_log.MESSAGE_EVENTS + 1)]
    for each in several:
        log.write(each)
    await turn()
    sizes = [len(events.decode(body)) for body in fake.bodies]
    assert sizes == [event_log.MESSAGE_EVENTS, event_log.MESSAGE_EVENTS, 1]
    assert [each for body in fake.bodies for each in events.decode(body)] == several


async def test_event_writer_keeps_order_and_unique_ids_over_turns() -> None:
    """RabbitMQ's answers are matched by id, so no two messages of a writer share one."""
    fake, log = writer()
    for number in range(5):
        log.write(event(number))
        await turn()
    assert [events.decode(body) for body in fake.bodies] == [[event(n)] for n in range(5)]
    assert len(set(fake.ids)) == 5
    assert all(each.startswith("test-") for each in fake.ids)


async def test_event_writer_reads_own_message_back_once_without_decoding() -> None:
    """The very events that were written; a message that is in the log twice is decoded then."""
    fake = FakePublisher()
    log = EventWriter(cast(Publisher, fake), "test", provenance.API, remembered=3)
    first, second = event(1), event(2)
    log.write(first)
    log.write(second)
    log.flush()
    [body] = fake.bodies
    read = log.pop_written(body, provenance.API)
    assert read is not None
    assert [id(each) for each in read] == [id(first), id(second)]
    assert log.pop_written(body, provenance.API) is None


async def test_event_writer_does_not_read_back_messages_of_other_writers() -> None:
    """Anybody may publish the same bytes under the name that RabbitMQ lets it have."""
    fake = FakePublisher()
    log = EventWriter(cast(Publisher, fake), "test", provenance.API, remembered=3)
    log.write(event(1))
    log.flush()
    [body] = fake.bodies
    assert log.pop_written(body, provenance.DISPATCHER) is None
    assert log.pop_written(b"{}", provenance.API) is None
    assert log.pop_written(body, provenance.API) == [event(1)]


async def test_event_writer_remembers_only_so_many_events() -> None:
    """Where the log is not read back, memory is bounded; by default nothing is remembered."""
    fake = FakePublisher()
    log = EventWriter(cast(Publisher, fake), "test", provenance.API, remembered=3)
    for number in range(4):
        log.write(event(number))
        log.flush()
    oldest, *others = fake.bodies
    assert log.pop_written(oldest, provenance.API) is None
    assert [log.pop_written(body, provenance.API) for body in others] == [
        [event(1)],
        [event(2)],
        [event(3)],
    ]
    fake, plain = writer()
    plain.write(event(1))
    plain.flush()
    assert plain.pop_written(fake.bodies[0], provenance.API) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 5))))
def test_written_messages_are_those_written_last(steps: list[tuple[bool, int, int]]) -> None:
    """By a plain list of messages: at most so many events, the newest first, each popped once."""
    messages = WrittenMessages(12)
    plain: list[tuple[bytes, list[Event]]] = []
    for adds, name, size in steps:
        body = b"%d" % name
        if adds:
            written = [event(name)] * size
            messages.add(body, written)
            plain = [each for each in plain if each[0] != body] + [(body, written)]
            while sum(len(each) for _, each in plain) > 12:
                del plain[0]
        else:
            assert messages.pop(body) == dict(plain).get(body)
            plain = [each for each in plain if each[0] != body]
        assert len(messages) == sum(len(each) for _, each in plain)


async def test_event_writer_writes_no_empty_message() -> None:
    """An empty message would be noise in the stream."""
    fake, log = writer()
    log.flush()
    log.write(event(1))
    log.flush()
    await turn()
    log.flush()
    assert len(fake.bodies) == 1


async def test_event_writer_flush_does_not_wait_for_the_turn() -> None:
    """Collected events are sent before a service ends."""
    fake, log = writer()
    log.write(event(1))
    log.flush()
    log.write(event(2))
    await turn()
    assert [events.decode(body) for body in fake.bodies] == [[event(1)], [event(2)]]


async def test_event_writer_retries_events_that_were_not_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream that is not there yet gets the same events later, with one outcome each."""
    monkeypatch.setattr(event_log, "RETRY_SECONDS", 0)
    fake, log = writer()
    answers: list[bool] = []
    log.write(event(1), answers.append)
    await turn()
    fake.answers[0](Outcome.UNROUTABLE)
    await turn()
    await turn()
    assert (len(fake.bodies), answers) == (2, [])
    assert fake.bodies[0] == fake.bodies[1]
    assert fake.ids[0] != fake.ids[1]
    fake.answers[1](Outcome.CONFIRMED)
    assert answers == [True]


async def test_event_writer_reports_an_outcome_for_every_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each event's writer learns whether RabbitMQ confirmed it, or refused or returned it."""
    monkeypatch.setattr(event_log, "TRIES", 1)
    fake, log = writer()
    answers: list[tuple[str, bool]] = []

    def answer(name: str) -> Callable[[bool], None]:
        return lambda written: answers.append((name, written))

    for number, outcome in enumerate(Outcome):
        log.write(event(number), answer(f"{outcome.value} a"))
        log.write(event(number))
        log.write(event(number), answer(f"{outcome.value} b"))
        await turn()
    assert answers == []
    for done, outcome in zip(fake.answers, Outcome, strict=True):
        done(outcome)
    assert answers == [
        ("confirmed a", True),
        ("confirmed b", True),
        ("refused a", False),
        ("refused b", False),
        ("unroutable a", False),
        ("unroutable b", False),
        ("abandoned a", False),
        ("abandoned b", False),
    ]


async def test_event_writer_accepts_an_event_from_within_a_callback() -> None:
    """An event written from within a callback is a new message, neither lost nor sent twice."""
    fake, log = writer()
    log.write(event(1), lambda _: log.write(event(2)))
    await turn()
    fake.answers[0](Outcome.CONFIRMED)
    await turn()
    assert [events.decode(body) for body in fake.bodies] == [[event(1)], [event(2)]]


class Clock:
    """The time of the running loop, which passes when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: self.now)

    async def advance(self, seconds: float) -> None:
        """Let time pass, and the loop do what is due then."""
        self.now += seconds
        for _ in range(3):
            await turn()


def written(fake: FakePublisher) -> list[list[Event]]:
    """Return the events of each message."""
    return [events.decode(body) for body in fake.bodies]


async def test_event_that_may_wait_is_written_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others that may wait join it, and do not make it wait for longer."""
    clock, (fake, log) = Clock(monkeypatch), writer()
    log.write(event(1), wait=1)
    await clock.advance(0.75)
    log.write(event(2), wait=1)
    assert fake.bodies == []
    await clock.advance(0.25)
    assert written(fake) == [[event(1), event(2)]]
    await clock.advance(10)
    assert len(fake.bodies) == 1


async def test_event_that_may_wait_for_less_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes with it those that might have waited longer."""
    clock, (fake, log) = Clock(monkeypatch), writer()
    log.write(event(1), wait=10)
    log.write(event(2), wait=1)
    await clock.advance(1)
    assert written(fake) == [[event(1), event(2)]]
    await clock.advance(10)
    assert len(fake.bodies) == 1


async def test_events_that_wait_are_written_with_the_next_one_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the end of its turn, with all of that turn, whether they may wait or not."""
    clock, (fake, log) = Clock(monkeypatch), writer()
    answers: list[bool] = []
    log.write(event(1), answers.append, wait=1)
    await turn()
    log.write(event(2))
    log.write(event(3), wait=1)
    await turn()
    assert written(fake) == [[event(1), event(2), event(3)]]
    fake.answers[0](Outcome.CONFIRMED)
    assert answers == [True]
    await clock.advance(10)
    assert len(fake.bodies) == 1


async def test_timer_of_events_that_were_written_does_not_end_a_later_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flush ends the wait, and the next event that may wait has its whole time."""
    clock, (fake, log) = Clock(monkeypatch), writer()
    log.write(event(1), wait=1)
    await clock.advance(0.5)
    log.flush()
    log.write(event(2), wait=1)
    await clock.advance(0.75)
    assert written(fake) == [[event(1)]]
    await clock.advance(0.25)
    assert written(fake) == [[event(1)], [event(2)]]


async def test_message_that_is_full_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that may wait are as few a message as others; what is left has its own wait."""
    clock, (fake, log) = Clock(monkeypatch), writer()
    several = [event(number) for number in range(event_log.MESSAGE_EVENTS + 1)]
    for each in several:
        log.write(each, wait=1)
    assert written(fake) == [several[:-1]]
    await clock.advance(1)
    assert written(fake) == [several[:-1], several[-1:]]


async def test_finishing_writes_what_waits() -> None:
    """A service that ends does not lose events that wait for others."""
    fake, log = writer()
    log.write(event(1), wait=3_600)
    finishing = asyncio.create_task(log.finish())
    await turn()
    assert written(fake) == [[event(1)]]
    fake.answers[0](Outcome.CONFIRMED)
    await finishing


async def test_event_writer_finish_waits_for_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that ends does not lose events that the stream has not taken yet."""
    monkeypatch.setattr(event_log, "RETRY_SECONDS", 0)
    fake, log = writer()
    log.write(event(1))
    finishing = asyncio.create_task(log.finish())
    await turn()
    fake.answers[0](Outcome.UNROUTABLE)
    for _ in range(5):
        await turn()
    assert not finishing.done()
    fake.answers[1](Outcome.CONFIRMED)
    await finishing
