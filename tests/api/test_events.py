"""``GET /events``: a snapshot, then what changes, for many clients at once."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import aiohttp
import jsonschema_rs
import pytest

from api import auth
from api.jobs import feed
from grid import kinds, provenance
from grid.events import MARKER, Event, State
from grid.messages import ChargeRequest
from tests.api.harness import AT, Bench, assigned, problem

KEY = "the-fleets-key"
KEYS = auth.parse_keys(f"fleet client {sha256(KEY.encode()).hexdigest()}")


class Stream:
    """The events of one answer, one after the other."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> tuple[str, Any, str]:
        """Return the next event: its name, its data, and its id."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(10):
            while (line := (await self.answer.content.readline()).decode().rstrip("\n")) or (
                "data" not in fields
            ):
                name, _, value = line.partition(": ")
                fields[name] = value
        return fields["event"], json.loads(fields["data"]), fields["id"]


@asynccontextmanager
async def following(
    bench: Bench, query: str = "", headers: dict[str, str] | None = None
) -> AsyncIterator[Stream]:
    """Follow the events for as long as the context lasts."""
    address = f"http://127.0.0.1:{bench.port}/events{query}"
    async with (
        aiohttp.ClientSession() as client,
        client.get(address, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        yield Stream(answer)


def hear(bench: Bench, *found: Event) -> None:
    """Have events arrive from the stream, and be written to all readers."""
    bench.offset += 1
    bench.hear(*found)
    bench.feed.flush()


def queued(job: str, vehicle: str | None = None) -> Event:
    """Return the event of a request."""
    return kinds.queued(ChargeRequest(id=job, requested_at=AT, vehicle_id=vehicle))


def snapshot(*names: str) -> Event:
    """Return the event of a dispatcher that knows these substations, one without sessions each."""
    rows = [
        {
            "substation": name,
            "load": 1.0,
            "connectors": 2.0,
            "utilisation": 0.5,
            "gauge": 1.0,
            "gauge_age_seconds": 0.1,
            "outstanding": 0.0,
            "eligible": True,
            "reason": None,
        }
        for name in names
    ]
    return kinds.snapshot(AT, "this", rows, (), 0)


async def test_events_begin_with_a_snapshot_and_continue_with_changes() -> None:
    """Jobs, substations and figures first; then each change with the event log's offset."""
    async with Bench().serve() as bench:
        hear(bench, queued("j1", "bus-7"), snapshot("s1"))
        bench.feed.end_second([], "")
        async with following(bench) as stream:
            name, data, _ = await stream.next()
            assert name == "snapshot"
            assert [each["id"] for each in data["jobs"]] == ["j1"]
            assert [each["id"] for each in data["substations"]] == ["s1"]
            assert data["status"]["counts"]["queued"] == data["status"]["waiting"] == 1
            assert data["history"]["accepted"] == [1]
            assert data["history"]["loads"] == {"s1": [1.0]}
            hear(bench, assigned("j1"))
            name, data, offset = await stream.next()
            assert (name, offset) == ("jobs", "2")
            (change,) = data
            assert (change["id"], change["status"], change["substation"]) == (
                "j1",
                "assigned",
                "s1",
            )
            assert change["vehicle_id"] == "bus-7"
            assert change["at"] == "2026-01-01T00:00:01Z"
            hear(bench, snapshot("s1", "s2"))
            name, data, _ = await stream.next()
            assert (name, len(data["substations"])) == ("substations", 2)
            bench.feed.end_second(["RabbitMQ link api-requests is down"], "")
            name, data, _ = await stream.next()
            assert (name, data["accepts"]) == ("status", False)
            assert data["alerts"][0]["name"] == "BrokerConnectionLost"


async def test_snapshot_says_why_jobs_wait_as_the_list_does() -> None:
    """Their reasons, places and powers are those of GET /charges."""
    async with Bench().serve() as bench:
        for job in ("j1", "j2"):
            hear(bench, queued(job))
        hear(bench, assigned("j2"), Event(State.CHARGING, AT, "j2", "s1"), snapshot("s1"))
        listed = (await bench.get("/charges?order=desc")).body["charges"]
        async with following(bench) as stream:
            _, data, _ = await stream.next()
        assert data["jobs"] == listed
        assert [each["place"] for each in listed] == [None, 1]
        assert listed[1]["reason"] == "s1 has capacity: it waits for its turn"


def shapes_of_events() -> dict[str, jsonschema_rs.Validator]:
    """Return what the document says of the data of each event."""
    document = Bench().app.openapi()
    answer = document["paths"]["/events"]["get"]["responses"]["200"]
    components = document["components"]
    for shape in components["schemas"].values():
        if "properties" in shape:
            shape["additionalProperties"] = False  # a field that is not described is an error
    items = [
        item["properties"] for item in answer["content"]["text/event-stream"]["itemSchema"]["oneOf"]
    ]
    return {
        item["event"]["const"]: jsonschema_rs.validator_for(
            {**item["data"]["contentSchema"], "components": components}
        )
        for item in items
    }


@pytest.mark.parametrize("query", ["", "?vehicle=bus-7"])
async def test_data_of_each_event_is_what_the_document_describes(query: str) -> None:
    """With and without figures, alerts and history."""
    shapes, seen = shapes_of_events(), set[str]()
    async with Bench().serve() as bench:
        async with following(bench, query) as stream:
            name, data, _ = await stream.next()
            shapes[name].validate(data)
            hear(bench, queued("j1", "bus-7"), assigned("j1"), snapshot("s1"))
            hear(
                bench,
                Event(State.CHARGING, AT + 1, "j1", "s1", 1),
                Event(State.COMPLETED, AT + 2, "j1", "s1", 1, energy_kwh=2.5),
                queued("j2", "bus-7"),
                Event(State.PARKED, AT + 2, "j2", reason="no such substation: s9"),
            )
            bench.feed.end_second(["RabbitMQ link api-requests is down"], "low on disk")
            names = {"jobs"} if query else {"jobs", "substations", "status"}
            while seen < names:
                name, data, _ = await stream.next()
                shapes[name].validate(data)
                seen.add(name)
        async with following(bench, query) as stream:
            name, data, _ = await stream.next()
            assert name == "snapshot"
            shapes[name].validate(data)
            assert data.get("status", {"alerts": [1]})["alerts"]
    assert seen == names


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("?job=j2", ["j2"]),
        ("?vehicle=bus-7", ["j1"]),
        ("?substation=s2", ["j3"]),
        ("?state=completed,parked", ["j4"]),
        ("?vehicle=bus-9&state=assigned", ["j3"]),
        ("?vehicle=bus-9&state=completed", []),
    ],
)
async def test_events_are_filtered_by_job_vehicle_substation_and_state(
    query: str, ids: list[str]
) -> None:
    """Only matching changes are sent, to those that resume as well, and no figures."""
    async with Bench().serve() as bench, following(bench, query) as stream:
        assert await stream.next() == ("snapshot", {"jobs": []}, "0")
        hear(
            bench,
            queued("j1", "bus-7"),
            queued("j2"),
            *(queued("j3", "bus-9"), assigned("j3", "s2")),
            Event(State.COMPLETED, AT, "j4", "s1"),
            snapshot("s1"),
        )
        bench.feed.end_second([], "")
        if not ids:
            hear(bench, Event(State.COMPLETED, AT, "j3", "s2"))
            ids = ["j3"]
        _, data, _ = await stream.next()
        assert list(dict.fromkeys(each["id"] for each in data)) == ids
        async with following(bench, query, {"Last-Event-ID": "0"}) as again:
            assert (await again.next())[:2] == ("jobs", data)


async def test_events_are_refused_while_the_event_log_is_still_being_read() -> None:
    """A snapshot would lack what was not read yet."""
    async with Bench().serve() as bench:
        bench.log.caught_up.clear()
        for query in ("", "?state=queued"):
            answer = await bench.get(f"/events{query}")
            assert problem(answer, 503)["code"] == "not-caught-up"
            assert answer.headers["Retry-After"] == "1"
        bench.log.caught_up.set()
        async with following(bench) as stream:
            assert (await stream.next())[0] == "snapshot"


async def test_events_resume_after_the_last_that_was_received() -> None:
    """What came since is sent, at least once, without a new snapshot."""
    async with Bench().serve() as bench:
        for number in range(1, 6):
            hear(bench, queued(f"j{number}"))
        async with following(bench, headers={"Last-Event-ID": "3"}) as stream:
            name, data, offset = await stream.next()
            assert (name, offset) == ("jobs", "5")
            assert [each["id"] for each in data] == ["j3", "j4", "j5"]


@pytest.mark.parametrize("seen", ["1", "99"])
async def test_events_begin_anew_where_what_was_missed_is_not_known(
    seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older than what is kept, or of another event log: a snapshot."""
    monkeypatch.setattr(feed, "MAX_RECENT", 2)
    async with Bench().serve() as bench:
        for number in range(1, 9):
            hear(bench, queued(f"j{number}"))
        async with following(bench, headers={"Last-Event-ID": seen}) as stream:
            name, data, _ = await stream.next()
            assert (name, len(data["jobs"])) == ("snapshot", 8)


async def test_events_begin_anew_where_one_of_several_changes_at_an_offset_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All requests that an api accepts between two messages of the log have the same offset."""
    monkeypatch.setattr(feed, "MAX_RECENT", 2)
    async with Bench().serve() as bench:
        bench.offset = 7
        bench.hear()
        for number in range(3):
            bench.log.record(queued(f"j{number}"))
        async with following(bench, headers={"Last-Event-ID": "7"}) as stream:
            name, data, _ = await stream.next()
            assert (name, len(data["jobs"])) == ("snapshot", 3)


@pytest.mark.parametrize("is_read_back", [True, False])
async def test_client_that_comes_from_another_api_gets_what_this_one_accepted(
    *, is_read_back: bool
) -> None:
    """The other one had read on, but not yet what this one was about to write."""
    async with Bench().serve() as bench:
        event = queued("j1")
        bench.log.record(event)
        hear(bench, queued("j2"))
        hear(bench, queued("j3"))
        if is_read_back:
            bench.offset += 1
            bench.hear(event, writer=provenance.API)
        async with following(bench, headers={"Last-Event-ID": "2"}) as stream:
            name, data, _ = await stream.next()
            assert (name, {each["id"] for each in data}) == ("jobs", {"j1", "j3"})
        hear(bench, event, queued("j4"))
        async with following(bench, headers={"Last-Event-ID": str(bench.offset)}) as stream:
            _, data, _ = await stream.next()
            assert {each["id"] for each in data} == {"j1", "j4"}
        hear(bench, queued("j5"))
        async with following(bench, headers={"Last-Event-ID": str(bench.offset)}) as stream:
            _, data, _ = await stream.next()
            assert [each["id"] for each in data] == ["j5"]


@pytest.mark.parametrize("seen", [None, "0"])
async def test_first_chunk_ends_no_reader_however_long_it_is(
    seen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the missed changes are too long, a snapshot is sent instead, which has an end."""
    monkeypatch.setattr(feed, "MAX_BUFFERED", 1_000)
    async with Bench().serve() as bench:
        hear(bench, *(queued(f"j{number}") for number in range(60)))
        headers = {} if seen is None else {"Last-Event-ID": seen}
        async with following(bench, headers=headers) as stream:
            name, data, _ = await stream.next()
            assert (name, len(data["jobs"])) == ("snapshot", 60)
            hear(bench, queued("later"))
            name, data, _ = await stream.next()
            assert (name, [each["id"] for each in data]) == ("jobs", ["later"])


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("?vehicle=bus-1", ["j601", "j1"]),
        ("?substation=s9", ["j2"]),
        ("?state=completed", ["j3"]),
        ("?state=completed&job=j3", ["j3"]),
        ("?state=queued&job=j3", []),
    ],
)
async def test_filtered_snapshot_has_also_what_was_read_before_this_start(
    query: str, ids: list[str]
) -> None:
    """The newest first, also behind hundreds of jobs that do not match."""
    async with Bench().serve() as bench:
        bench.log.caught_up.clear()
        bench.hear(
            *(queued(f"j{number}", f"bus-{number % 600}") for number in range(700)),
            *(assigned("j2", "s9"), Event(State.COMPLETED, AT, "j3", "s1")),
        )
        bench.log.caught_up.set()
        async with following(bench, query) as stream:
            name, data, _ = await stream.next()
            assert (name, [each["id"] for each in data["jobs"]]) == ("snapshot", ids)


async def test_changes_while_a_snapshot_is_collected_come_after_it() -> None:
    """None is lost: the stream continues from the offset at which it began."""
    async with Bench().serve() as bench:
        hear(bench, *(queued(f"j{number}", "bus-1") for number in range(700)))
        selection = feed.Selection(states=frozenset({State.COMPLETED}))
        opening = asyncio.create_task(bench.feed.open(selection, None, ()))
        await asyncio.sleep(0)
        assert not opening.done()
        hear(bench, Event(State.COMPLETED, AT, "j699", "s1"))
        reader = await opening
        text = (await anext(reader.chunks())).decode()
        first, second, _ = text.split("\n\n")
        assert ("event: snapshot" in first, "id: 1" in first) == (True, True)
        assert ("event: jobs" in second, "j699" in second) == (True, True)


async def test_api_that_reads_its_own_request_back_tells_it_once() -> None:
    """The second time nothing has changed; a decision again, after a reclaim, is a change."""
    async with Bench().serve() as bench, following(bench) as stream:
        await stream.next()
        event = queued("j1")
        bench.log.record(event)
        bench.offset += 1
        bench.hear(event, writer=provenance.API)
        hear(bench, assigned("j1"), assigned("j1", "s2"))
        _, data, _ = await stream.next()
        assert [(each["event"], each["substation"]) for each in data] == [
            *[("queued", None), ("assigned", "s1"), ("assigned", "s2")]
        ]
        bench.feed.end_second([], "")
        _, status, _ = await stream.next()
        assert status["second"]["accepted"] == 1


async def test_client_that_reads_too_slowly_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for it is bounded, it is told once, and others get everything."""
    monkeypatch.setattr(feed, "MAX_BUFFERED", 100_000)
    caplog.set_level("INFO", "api.jobs.feed")
    async with Bench().serve() as bench, following(bench) as other:
        await other.next()
        slow = socket.create_connection(("127.0.0.1", bench.port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sent = 0
        async with asyncio.timeout(30):
            while "reads too slowly" not in caplog.text:
                sent += 400
                jobs = [queued(f"j{number}") for number in range(sent - 400, sent)]
                hear(bench, *jobs)
                assert len((await other.next())[1]) == 400
        hear(bench, queued("last"))
        assert (await other.next())[1][0]["id"] == "last"
        assert caplog.text.count("reads too slowly") == 1
        assert bench.feed.readers == 1
        slow.close()


async def test_events_need_a_key_where_every_request_does() -> None:
    """And a HEAD of the stream ends; the page itself needs no key."""
    async with Bench(keys=KEYS, closed=True).serve() as bench:
        problem(await bench.get("/events"), 401)
        async with following(bench, headers={"Authorization": f"Bearer {KEY}"}) as stream:
            assert (await stream.next())[0] == "snapshot"
        key = ("Authorization", f"Bearer {KEY}")
        assert (await bench.ask("HEAD", "/events", headers=[key])).status == 200
        for path in ("/", "/page/main.js", "/page/uplot/LICENSE.txt"):
            assert (await bench.get(path)).status == 200
        problem(await bench.get("/page/no.js"), 404)
        problem(await bench.get("/page/../app.py"), 401)
        for query in ("?state=full", "?stat=queued", "?job=a&job=b", "?job="):
            problem(await bench.ask("GET", f"/events{query}", headers=[key]), 422)


async def test_page_may_run_its_own_scripts_alone() -> None:
    """The policy has no word for scripts or styles in the page, and the page has none."""
    async with Bench().serve() as bench:
        answer = await bench.get("/")
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "style=" not in answer.body
        assert "<style" not in answer.body
        assert answer.body.count("<script") == answer.body.count('<script type="module" src=')
        assert "http:" not in answer.body
        assert "https:" not in answer.body


async def test_dispatcher_is_not_called_silent_for_the_time_without_rabbitmq() -> None:
    """What it wrote meanwhile comes a moment after the link is up again."""
    async with Bench().serve() as bench, following(bench) as stream:
        await stream.next()
        hear(bench, snapshot("s1"))
        await stream.next()
        bench.feed.on_link(is_up=False)
        bench.now += 60
        bench.feed.end_second(["RabbitMQ link api-events is down"], "")
        _, status, _ = await stream.next()
        assert [each["name"] for each in status["alerts"]] == ["BrokerConnectionLost"]
        assert status["dispatcher"]["is_silent"]
        bench.feed.on_link(is_up=True)
        bench.feed.end_second([], "")
        _, status, _ = await stream.next()
        assert status["alerts"] == []
        bench.now += 3
        bench.feed.end_second([], "")
        _, status, _ = await stream.next()
        assert [each["name"] for each in status["alerts"]] == ["DispatcherSilent"]


async def test_readers_are_told_when_substations_are_not_known_any_more_and_when_they_are() -> None:
    """Each row says so, not only the status: a client may keep the rows alone."""
    async with Bench().serve() as bench, following(bench) as stream:
        await stream.next()
        hear(bench, snapshot("s1"))
        await stream.next()
        bench.now += 3
        bench.feed.flush()
        name, data, _ = await stream.next()
        (found,) = data["substations"]
        assert (name, found["status"], found["eligible"]) == ("substations", "unknown", False)
        hear(bench, Event(MARKER, AT, job="dispatcher"))
        name, data, _ = await stream.next()
        assert (name, data["substations"][0]["status"]) == ("substations", "available")


async def test_dispatcher_that_is_dead_is_called_silent_while_a_link_breaks_again_and_again() -> (
    None
):
    """Once the link is up again it is excused for a moment, but not twice without a word."""
    async with Bench().serve() as bench, following(bench) as stream:
        await stream.next()
        hear(bench, snapshot("s1"))
        await stream.next()
        found = []
        for _ in range(3):
            bench.feed.on_link(is_up=False)
            bench.now += 2
            bench.feed.on_link(is_up=True)
            bench.feed.end_second([], "")
            _, status, _ = await stream.next()
            found.append([each["name"] for each in status["alerts"]])
        assert found == [[], [], ["DispatcherSilent"]]


async def test_reader_goes_away_with_its_connection() -> None:
    """It costs nothing any more once the next chunk could not be written."""
    async with Bench().serve() as bench:
        async with following(bench) as stream:
            await stream.next()
        for number in range(100):
            hear(bench, queued(f"j{number}"))
            await asyncio.sleep(0.01)
            if bench.feed.readers == 0:
                break
        assert bench.feed.readers == 0


async def test_no_more_clients_than_the_maximum_follow_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One more is told when to come again, and may once another has left."""
    monkeypatch.setattr(feed, "MAX_READERS", 1)
    async with Bench().serve() as bench:
        async with following(bench) as stream:
            await stream.next()
            answer = await bench.get("/events")
            assert problem(answer, 503)["code"] == "too-many-streams"
            assert answer.headers["Retry-After"] == "1"
        await bench.until(lambda: bench.feed.readers == 0)
        async with following(bench) as stream:
            assert (await stream.next())[0] == "snapshot"


async def test_filter_by_substation_has_an_end_that_the_dispatcher_wrote() -> None:
    """Its event names none: the job's counts."""
    async with Bench().serve() as bench:
        hear(bench, queued("j1"), assigned("j1", "s2"))
        async with following(bench, "?substation=s2") as stream:
            await stream.next()
            hear(bench, kinds.cancelled("j1", AT + 2))
            _, (change,), _ = await stream.next()
            assert (change["id"], change["status"]) == ("j1", "cancelled")


@pytest.mark.parametrize("is_past", [True, False])
async def test_event_of_a_clock_that_is_ahead_keeps_the_energy_of_today(*, is_past: bool) -> None:
    """It counts today, and what was delivered before is not forgotten."""
    async with Bench().serve() as bench:
        if is_past:
            bench.log.caught_up.clear()
        day = 86_400
        bench.hear(
            Event(State.COMPLETED, AT, "j1", "s1", energy_kwh=2),
            Event(State.COMPLETED, AT + day, "j2", "s1", energy_kwh=3),
            Event(State.CANCELLED, AT, "j3", "s2", energy_kwh=4),
        )
        bench.log.caught_up.set()
        async with following(bench) as stream:
            _, data, _ = await stream.next()
            assert data["status"]["energy_today_kwh"] == {"s1": 5.0, "s2": 4.0}


async def test_new_reader_is_told_why_rabbitmq_blocks_and_changes_no_alert() -> None:
    """A snapshot is of the last second: it neither forgets the reason nor begins an alert anew."""
    async with Bench().serve() as bench:
        bench.feed.end_second(["RabbitMQ blocks publishers"], "low on disk")
        bench.problems = ["RabbitMQ blocks publishers"]
        for bench.at in (AT + 5, AT + 6):
            async with following(bench) as stream:
                _, data, _ = await stream.next()
                (alert,) = data["status"]["alerts"]
                assert (alert["name"], alert["since"]) == ("RabbitMQDiskAlarm", AT)
                assert not data["status"]["accepts"]
        bench.feed.end_second([], "")
        bench.problems = ["RabbitMQ link api-requests is down"]
        async with following(bench) as stream:
            await stream.next()
        bench.at = AT + 9
        async with following(bench) as stream:
            _, data, _ = await stream.next()
            assert data["status"]["alerts"][0]["since"] == AT + 9
