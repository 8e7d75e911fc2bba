"""From where a dispatcher reads the event log when it starts, on a real stream."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher import log_start
from dispatcher.log_start import find_start
from grid import events, provenance
from grid.amqp import Publisher, StreamScanner
from grid.errors import BrokerUnavailable
from grid.event_log import EventWriter
from grid.events import SUBSTATIONS, Event, State
from grid.topology import EVENTS
from tests.broker import VirtualHost
from tests.grid.links import TIMEOUT, Seen, running

pytestmark = pytest.mark.integration


def snapshot(floor: object, dispatcher: str = "a") -> Event:
    """Return a snapshot that names an offset."""
    return Event(SUBSTATIONS, 1.0, detail={"dispatcher": dispatcher, "unsettled_from": floor})


async def write(vhost: VirtualHost, *several: Event, pause: float = 0.0) -> None:
    """Write events, each as a message of its own."""
    async with running(Publisher("writer", [vhost.url()], Seen())) as publisher:
        writer = EventWriter(publisher, "test", provenance.DISPATCHER)
        for each in several:
            written = asyncio.get_running_loop().create_future()
            writer.write(each, written.set_result)
            writer.flush()
            assert await asyncio.wait_for(written, TIMEOUT)
            await asyncio.sleep(pause)


def job(number: int) -> Event:
    """Return an event that is no snapshot."""
    return Event(State.QUEUED, 1.0, job=f"j{number}")


async def start(vhost: VirtualHost) -> str | int:
    """Return from where a dispatcher would read."""
    async with running(StreamScanner("log", [vhost.url("dispatcher")], Seen())) as scanner:
        return await find_start(scanner)


async def test_log_start_is_first_without_a_snapshot(vhost: VirtualHost) -> None:
    """Which decisions are settled is not known: an empty log, or one of an earlier version."""
    assert await start(vhost) == "first"
    await write(vhost, job(1), Event(SUBSTATIONS, 1.0, detail={"dispatcher": "a"}), snapshot("3"))
    assert await start(vhost) == "first"


async def test_log_start_is_offset_named_by_newest_snapshot(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest snapshot of each dispatcher counts, and of several the lowest offset."""
    monkeypatch.setattr(log_start, "RECENT", "1s")
    await write(vhost, *map(job, range(10)), snapshot(2), snapshot(7), job(10), job(11))
    await asyncio.sleep(2.5)  # the age of messages goes by RabbitMQ's clock
    await write(vhost, job(12))
    assert await start(vhost) == 7
    await write(vhost, snapshot(5, "b"), job(13))
    assert await start(vhost) == 5


async def test_log_start_searches_further_back_for_a_snapshot(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No dispatcher was active while the api went on writing."""
    monkeypatch.setattr(log_start, "RECENT", "1s")
    monkeypatch.setattr(log_start, "WINDOWS", (3, 10, 100))
    await write(vhost, *map(job, range(5)), snapshot(4), *map(job, range(5, 25)))
    await asyncio.sleep(2.5)
    await write(vhost, job(25))
    assert await start(vhost) == 4
    monkeypatch.setattr(log_start, "WINDOWS", (3, 10))
    assert await start(vhost) == "first"


async def test_log_start_includes_recent_messages_that_are_settled(vhost: VirtualHost) -> None:
    """After its link broke, an api publishes again what may just have been sent."""
    await write(vhost, *map(job, range(5)), snapshot(4))
    assert await start(vhost) == 0


async def test_log_start_ignores_offset_beyond_end_of_log(vhost: VirtualHost) -> None:
    """The log was deleted and declared again, or a writer wrote an impossible offset."""
    await write(vhost, job(1), snapshot(1_000_000))
    begin = await start(vhost)
    assert isinstance(begin, int)
    assert begin <= 1


async def test_scan_ends_before_given_offset(vhost: VirtualHost) -> None:
    """An exception of the caller ends it as well."""
    await write(vhost, *map(job, range(600)))
    seen: list[tuple[int, str]] = []

    def see(offset: int, body: bytes, _writer: str) -> None:
        seen.extend((offset, each.job) for each in events.decode(body))

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    told = Seen()
    async with running(StreamScanner("log", [vhost.url("dispatcher")], told)) as scanner:
        await scanner.scan(EVENTS, 3, 590, see)
        assert seen == [(number, f"j{number}") for number in range(3, 590)]
        with pytest.raises(ZeroDivisionError):
            await scanner.scan(EVENTS, 0, 590, fail)
        await scanner.scan(EVENTS, "first", 5, see)
        assert seen[-1] == (4, "j4")
        # what was on its way when a scan ended is not rejected: RabbitMQ would end the connection
        await asyncio.sleep(0.2)
        assert scanner.connected
    assert told.reasons() == ["connected"]


async def test_scan_raises_if_messages_are_missing(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would wait for messages that nobody writes."""
    monkeypatch.setattr("grid.amqp.scanner.SILENT_SECONDS", 0.2)
    await write(vhost, job(1))
    async with running(StreamScanner("log", [vhost.url("dispatcher")], Seen())) as scanner:
        with pytest.raises(BrokerUnavailable, match="before offset 10"):
            await scanner.scan(EVENTS, 0, 10, lambda *_: None)
    with pytest.raises(BrokerUnavailable, match="not connected"):
        await scanner.scan(EVENTS, 0, 10, lambda *_: None)
