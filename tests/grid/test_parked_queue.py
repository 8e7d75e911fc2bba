"""The tool for parked messages on a real broker: no message is lost whatever happens."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from grid import events, messages, parking, topology
from grid.amqp import Declarer, Publisher
from grid.errors import BrokerUnavailable
from grid.events import Event, State
from grid.messages import ChargeRequest
from grid.parked import queue as module
from grid.parked.cli import arguments, run
from grid.parked.queue import ParkedMessage, ParkedQueue
from grid.parked.text import HEADING
from tests.broker import VirtualHost
from tests.grid.links import Listener, Recorder, Seen, eventually, running, waits_in

pytestmark = pytest.mark.integration

AT = 1_700_000_000.0
ROOT = Path(__file__).resolve().parents[2]
MANY = 250  # more than are done at once


@pytest.fixture
async def declarer(vhost: VirtualHost) -> AsyncIterator[Declarer]:
    """Yield a link that can look at queues."""
    async with running(Declarer("test", [vhost.url()], Seen())) as link:
        yield link


def queue(vhost: VirtualHost) -> ParkedQueue:
    """Return the parked queue with the permissions of the tool's own user."""
    return ParkedQueue([vhost.url("parked")], Seen(), lambda: AT)


async def do(vhost: VirtualHost, *words: str) -> tuple[int, str, str]:
    """Run the tool; return status, output and error output."""
    out, err = io.StringIO(), io.StringIO()
    status = await run(arguments(words), queue(vhost), out, err)
    return status, out.getvalue(), err.getvalue()


async def park(vhost: VirtualHost, declarer: Declarer, *ids: str, **more: Any) -> None:  # noqa: ANN401
    """Park requests, as the dispatcher does."""
    async with running(Publisher("test", [vhost.url("dispatcher")], Seen())) as publisher:
        label = {
            **parking.label("no such substation", "none: s9", "charge.requests", AT, {}),
            **more,
        }
        for id in ids:  # noqa: A001
            body = b"{" if id.startswith("bad") else ChargeRequest(id, AT, priority=3).encode()
            await publisher.confirmed(
                topology.PARKED, topology.PARKED_KEY, body, id=id, timeout=20, headers=label
            )
    await waits_in(declarer, topology.PARKED_QUEUE, len(ids))


async def events_read(vhost: VirtualHost, count: int) -> list[Event]:
    """Read so many events, and return them."""
    listener = Listener(vhost.url(), topology.EVENTS, "first")

    def found() -> list[Event]:
        return [each for body in listener.bodies for each in events.decode(body)]

    async with listener.running():
        await eventually(lambda: len(found()) >= count, "the events are read")
    return found()


async def requested(vhost: VirtualHost, count: int) -> Recorder:
    """Return a recorder that has consumed so many requests."""
    requests = Recorder(vhost.url(), topology.REQUESTS)
    async with requests.running():
        await eventually(lambda: len(requests.ids) >= count, "the requests are there")
    return requests


async def test_parked_tool_list_and_show_leave_messages_unchanged(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """A list and a whole message show the oldest first, and requeue everything."""
    assert await do(vhost, "list") == (0, HEADING + "\n", "")
    await park(vhost, declarer, "j1", "j2", "bad")
    status, out, err = await do(vhost, "list")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["ID", "j1", "j2", "bad"]
    await waits_in(declarer, topology.PARKED_QUEUE, 3)
    _, out, err = await do(vhost, "list", "--json", "--limit", "2")
    assert (len(out.splitlines()), err) == (2, "more messages: only --limit 2 are shown\n")
    await waits_in(declarer, topology.PARKED_QUEUE, 3)
    status, out, _ = await do(vhost, "show", "j2")
    assert status == 0
    assert '"id":"j2"' in out
    await waits_in(declarer, topology.PARKED_QUEUE, 3)
    status, _, err = await do(vhost, "show", "j9")
    assert (status, "j9" in err) == (1, True)


async def test_parked_tool_replay_is_published_and_recorded(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """With the same id, body and priority, counted as a replay; the others stay."""
    await park(vhost, declarer, "j1", "j2", **{parking.REPLAYS_HEADER: 4})
    status, out, err = await do(vhost, "replay", "j2", "j7")
    assert (status, out) == (1, "replayed  j2\n")
    assert "j7" in err
    await waits_in(declarer, topology.PARKED_QUEUE, 1)
    (sent,) = (await requested(vhost, 1)).deliveries
    assert (sent.id, messages.decode(sent.body).id) == ("j2", "j2")
    assert sent.headers == {parking.REPLAYS_HEADER: 5}
    (event,) = await events_read(vhost, 1)
    assert (event.kind, event.job, event.detail) == (State.QUEUED, "j2", {parking.REPLAYS: 5})
    assert event.reason == f"{module.REPLAYED}; it was parked: none: s9"


async def test_parked_tool_replays_all_but_what_is_no_request(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """All are listed by name, in pages, and none is replayed twice."""
    ids = [f"j{number}" for number in range(MANY)]
    await park(vhost, declarer, *ids, "bad")
    assert (await do(vhost, "replay", "--all", "--reason", "malformed"))[:2] == (0, "")
    await waits_in(declarer, topology.PARKED_QUEUE, MANY + 1)
    status, out, err = await do(vhost, "replay", "--all", "--reason", "no-such-substation")
    assert status == 1
    assert sorted(out.splitlines()) == sorted(f"replayed  {each}" for each in ids)
    assert err.startswith("not replayed  bad: it would be parked again")
    await waits_in(declarer, topology.PARKED_QUEUE, 1)
    found = (await requested(vhost, MANY)).ids
    assert sorted(map(str, found)) == sorted(ids)  # requeued messages are in another order
    assert len(await events_read(vhost, MANY)) == MANY
    status, out, err = await do(vhost, "replay", "--all", "--force")
    assert (status, out, err) == (0, "replayed  bad\n", "")


async def test_parked_tool_leaves_messages_parked_while_it_runs(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """A replay that is parked again at once is not replayed for ever."""
    await park(vhost, declarer, "j1", "j2")
    one = queue(vhost)
    seen = []
    async with one.open():
        async for message in one.messages():
            seen.append(message.parked.id)
            async with running(Publisher("test", [vhost.url()], Seen())) as publisher:
                await publisher.confirmed(
                    topology.PARKED, topology.PARKED_KEY, b"{}", id="new", timeout=20
                )
    assert seen == ["j1", "j2"]


async def test_parked_tool_discards_only_with_yes_and_records_it(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """Without ``--yes`` nothing is done; with it, the event log has who discarded it, and why."""
    await park(vhost, declarer, "j1", "j2")
    status, out, err = await do(vhost, "discard", "--all")
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f"not discarded  {each}: add --yes to discard it" for each in ("j1", "j2")
    ]
    await waits_in(declarer, topology.PARKED_QUEUE, 2)
    assert (await do(vhost, "discard", "j1", "--yes", "--why", "a test"))[0] == 0
    await waits_in(declarer, topology.PARKED_QUEUE, 1)
    (event,) = await events_read(vhost, 1)
    assert (event.kind, event.job) == (State.CANCELLED, "j1")
    assert event.reason == f"{module.DISCARDED}: a test; it was parked: none: s9"


async def test_parked_tool_run_twice_at_once_replays_each_message_once(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """Neither sees the messages that the other holds; each message is replayed once."""
    await park(vhost, declarer, *(f"j{number}" for number in range(30)))
    results = await asyncio.gather(do(vhost, "replay", "--all"), do(vhost, "replay", "--all"))
    replayed = [line for _, out, _ in results for line in out.splitlines()]
    assert len(replayed) == len(set(replayed))
    await waits_in(declarer, topology.PARKED_QUEUE, 30 - len(replayed))
    await do(vhost, "replay", "--all")
    assert len(set((await requested(vhost, 30)).ids)) == 30


@pytest.mark.parametrize("step", ["confirmed", "_record", "_settle"])
async def test_parked_tool_keeps_the_original_until_its_replay_is_recorded(
    vhost: VirtualHost, declarer: Declarer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """If confirm, record or acknowledgement is missing, the original stays, under its id."""
    await park(vhost, declarer, "j1")

    def fail(*_: object, **__: object) -> None:
        raise BrokerUnavailable("gone")

    monkeypatch.setattr(Publisher if step == "confirmed" else ParkedQueue, step, fail)
    with pytest.raises(BrokerUnavailable, match="gone"):
        await do(vhost, "replay", "j1")
    await waits_in(declarer, topology.PARKED_QUEUE, 1)
    monkeypatch.undo()
    assert (await do(vhost, "replay", "j1"))[0] == 0
    found = await requested(vhost, 1 if step == "confirmed" else 2)
    assert set(found.ids) == {"j1"}
    assert all(each.headers == {parking.REPLAYS_HEADER: 1} for each in found.deliveries)


async def test_parked_tool_settles_nothing_on_a_broken_connection(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """The link comes back by itself; the old delivery tags are void, so all messages stay."""
    await park(vhost, declarer, "j1", "j2")
    one = queue(vhost)
    async with one.open():
        found: list[ParkedMessage] = [each async for each in one.messages()]
        one._taker._broken.set_result("cut")  # noqa: SLF001  # as RabbitMQ would
        await eventually(
            lambda: not found[0].delivery.is_live and one._taker.connected,  # noqa: SLF001
            "it is back",
        )
        with pytest.raises(BrokerUnavailable, match="broke"):
            await one.discard(found[0], "")
    await waits_in(declarer, topology.PARKED_QUEUE, 2)


async def test_parked_tool_gives_up_without_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike a service, it gives up after a timeout."""
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.1)
    one = ParkedQueue(["amqp://127.0.0.1:1/"], Seen(), lambda: AT)
    with pytest.raises(BrokerUnavailable, match="gave no connection"):
        await run(arguments(["list"]), one, io.StringIO(), io.StringIO())


async def test_parked_tool_killed_during_replay_loses_no_job(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """``kill -9`` while it replays: every job is in charge.requests, or parked still, or both."""
    ids = [f"j{number}" for number in range(MANY)]
    await park(vhost, declarer, *ids)
    tool = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "grid.parked", "replay", "--all"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "AMQP_URL": vhost.url("parked")},
        stdout=subprocess.PIPE,
    )
    assert tool.stdout is not None
    await asyncio.to_thread(tool.stdout.readline)
    tool.send_signal(signal.SIGKILL)
    await asyncio.to_thread(tool.communicate)
    requests = Recorder(vhost.url(), topology.REQUESTS)
    async with requests.running():
        left = MANY
        while left or set(requests.ids) != set(ids):
            status, _, err = await do(vhost, "replay", "--all")
            assert status == 0, err
            left = (await declarer.queue(topology.PARKED_QUEUE)).ready
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("replay",),
        ("replay", "j1", "--all"),
        ("discard", "--yes"),
        ("list", "--limit", "-1"),
        ("show",),
        ("burn", "--all"),
    ],
)
def test_parked_tool_refuses_an_incomplete_command(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """An incomplete command does nothing."""
    with pytest.raises(SystemExit) as ended:
        arguments(words)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err
