"""Plain requests are answered without FastAPI's layers, and mean the same as all others."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from api.auth import ANONYMOUS
from api.jobs import event_log as log
from api.jobs import projection
from api.jobs.job import MAX_UNPACKED_RECORD, Job
from api.jobs.projection import Projection
from api.middleware import LIST_BYTES
from api.schemas import ChargeIn
from grid import messages, wire
from grid.amqp import Outcome
from grid.errors import BrokerUnavailable
from grid.events import SUBSTATIONS, Event, State
from grid.trace import Trace
from tests.api.harness import AT, FULL, JSON, REQUESTS, Bench, assigned
from tests.fake_broker import turns

TRACE = Trace("1" * 32, "2" * 16)
OTHERWISE = ("Content-Type", "application/vnd.charge+json")  # left to FastAPI


TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
OUTCOMES = (Outcome.CONFIRMED, Outcome.REFUSED)  # of two requests


class Seen(NamedTuple):
    """What is visible of a request from outside: to RabbitMQ, to the client, in the metrics."""

    status: int
    headers: list[tuple[str, str]]
    body: Any
    published: list[tuple[str, bytes, Mapping[str, Any], int]]
    counted: float


def nothing(_: Bench) -> None:
    """All is well."""


def away(bench: Bench) -> None:
    """RabbitMQ cannot be reached."""
    bench.publisher.up.clear()


def silent(bench: Bench) -> None:
    """RabbitMQ does not confirm."""
    del bench.publisher.automatic[REQUESTS]


def full(bench: Bench) -> None:
    """The queue is at its limit."""
    bench.publisher.automatic[REQUESTS] = Outcome.REFUSED


def one_substation(bench: Bench) -> None:
    """The dispatcher has written that s1 is the only substation."""
    bench.hear(Event(SUBSTATIONS, AT, detail={"substations": [{"substation": "s1"}]}))


def body_for(path: str, fields: object) -> str:
    """Return a body: one request, or a list of two."""
    return json.dumps([fields, fields] if path == "/charges" else fields)


async def see(
    bench: Bench, path: str, body: str, headers: Sequence[tuple[str, str]], *outcomes: Outcome
) -> Seen:
    """Post a body, and have RabbitMQ answer its requests by ``outcomes``, if any are given."""
    before = len(bench.publisher.to(REQUESTS))
    asking = asyncio.create_task(bench.ask("POST", path, body, headers))
    if outcomes:
        await bench.until(lambda: len(bench.publisher.waiting) == len(outcomes))
    for outcome in outcomes:
        bench.publisher.answer(REQUESTS, outcome)
    answer = await asking
    # the order of different headers means nothing, and the date is when it was asked
    lines = sorted((name.lower(), value) for name, value in answer.headers.items())
    sent = bench.publisher.to(REQUESTS)[before:]
    labels = {"method": "POST", "route": path, "status": str(answer.status)}
    return Seen(
        answer.status,
        [each for each in lines if each[0] != "date"],
        answer.body,
        [(str(e.id), e.body, bench.publisher.headers[str(e.id)], e.priority) for e in sent],
        bench.count("requests_total", **labels),
    )


@pytest.mark.parametrize("path", ["/charge", "/charges"])
@pytest.mark.parametrize(
    ("fields", "status", "prepare", "headers"),
    [
        pytest.param(fields, 202, nothing, headers, id=name)
        for name, fields, headers in (
            ("empty", {}, []),
            ("full", FULL, [("Prefer", "respond-async")]),
            ("spaces and signs", {"vehicle_id": "bus 7 🚗", "priority": 9.0}, []),
            ("numbers", {"requested_energy_kwh": 40, "requested_power_kw": 1e-7}, []),
            ("comma", {"departure_time": "2030-01-01 08:00:00,5+01:00"}, []),
            ("nulls", {"eligible_substations": None, "vehicle_id": None}, []),
            ("several preferences", {}, [("Prefer", 'wait=1, Respond-Async; x="1"')]),
            ("other preference", {}, [("Prefer", "handling=lenient")]),
            ("preferences in lines", {}, [("Prefer", "a"), ("Prefer", "respond-async")]),
            ("traceparent", {}, [("traceparent", TRACEPARENT)]),
            ("tracestate", {}, [("traceparent", TRACEPARENT), ("tracestate", "x=1,y=2")]),
            ("tracestate alone", {}, [("tracestate", "x=1")]),
            ("tracestate not ASCII", {}, [("traceparent", TRACEPARENT), ("tracestate", "x=\xe9")]),
            ("no traceparent", {}, [("traceparent", "x"), ("tracestate", "x=1")]),
            ("traceparent twice", {}, [("traceparent", TRACEPARENT)] * 2),
        )
    ]
    + [
        pytest.param(fields, status, prepare, [], id=name)
        for name, fields, status, prepare in (
            ("past departure", {"departure_time": "2020-01-01T00:00:00Z"}, 422, nothing),
            ("far departure", {"departure_time": "9999-12-31T23:59:59-01:00"}, 422, nothing),
            ("wrong vehicle", {"vehicle_id": "\n"}, 422, nothing),
            ("unknown substation", {"eligible_substations": ["s9"]}, 422, one_substation),
            ("known substation", {"eligible_substations": ["s1"]}, 202, one_substation),
            ("wrong fields", {"priority": 10, "other": 1}, 422, nothing),
            ("no object", 7, 422, nothing),
            ("away", {}, 503, away),
            ("refused", {}, 503, full),
            ("unconfirmed", {}, 503, silent),
            ("too large", {"vehicle_id": "x" * LIST_BYTES}, 413, nothing),
        )
    ],
)
async def test_shortcut_answers_a_request_as_fastapi_does(
    path: str,
    fields: object,
    status: int,
    prepare: Callable[[Bench], None],
    headers: list[tuple[str, str]],
) -> None:
    """The same message goes to the queue, and the same answer comes back, headers and all."""
    found = []
    for kind in (JSON, OTHERWISE):
        async with Bench(confirm_timeout=0.05 if prepare is silent else 5).serve() as bench:
            prepare(bench)
            found.append(await see(bench, path, body_for(path, fields), [kind, *headers]))
    assert found[0] == found[1]
    assert (found[0].status, found[0].counted) == (status, 1)
    assert bool(found[0].published) is (status == 202 or prepare in (full, silent))


@pytest.mark.parametrize("path", ["/charge", "/charges"])
@pytest.mark.parametrize(("again", "status"), [(FULL, 202), ({}, 422)])
async def test_shortcut_answers_a_repeated_request_as_fastapi_does(
    path: str, again: object, status: int
) -> None:
    """The same one is the same job; another one with its key is refused."""
    found = []
    for kind in (JSON, OTHERWISE):
        async with Bench().serve() as bench:
            headers = [kind, ("Idempotency-Key", "a")]
            first = await see(bench, path, body_for(path, FULL), headers)
            second = await see(bench, path, body_for(path, again), headers)
            found.append((first, second))
    assert found[0] == found[1]
    first, second = found[0]
    assert (first.status, second.status, second.published) == (202, status, [])


@pytest.mark.parametrize("outcomes", [OUTCOMES, OUTCOMES[::-1]])
async def test_shortcut_answers_a_partly_accepted_list_as_fastapi_does(
    outcomes: tuple[Outcome, Outcome],
) -> None:
    """503 with the ids of those that are jobs now."""
    found = []
    for kind in (JSON, OTHERWISE):
        async with Bench().serve() as bench:
            silent(bench)
            found.append(await see(bench, "/charges", "[{}, {}]", [kind], *outcomes))
    assert found[0] == found[1]
    assert (found[0].status, len(found[0].body["accepted"])) == (503, 1)


async def test_plain_request_is_answered_without_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a list of them; what is not plain is."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("FastAPI was asked")

    monkeypatch.setattr("fastapi.routing.solve_dependencies", fail)
    async with Bench().serve() as bench:
        for body, path in ((FULL, "/charge"), (None, "/charge"), ([FULL], "/charges")):
            assert (await bench.post(body, path)).status == 202
        assert (await bench.ask("POST", "/charge", b"{}", [OTHERWISE])).status == 500


async def test_list_waits_for_its_confirms_in_one_task() -> None:
    """One task and one future for all of them."""
    bench = Bench()
    del bench.publisher.automatic[REQUESTS]
    asking = asyncio.create_task(bench.intake.accept_all([ChargeIn()] * 100, ANONYMOUS, TRACE))
    await turns()
    assert len(bench.publisher.to(REQUESTS)) == 100
    assert len(asyncio.all_tasks()) == 2
    for _ in range(100):
        bench.publisher.answer(REQUESTS)
    assert len(await asking) == 100


async def test_second_waiter_is_answered_though_the_first_has_disconnected() -> None:
    """The request goes on when the first client that waits for it disconnects."""
    bench = Bench()
    del bench.publisher.automatic[REQUESTS]
    first, second = [
        asyncio.create_task(bench.intake.accept(ChargeIn(), ANONYMOUS, TRACE, "key-a"))
        for _ in range(2)
    ]
    await turns()
    first.cancel()
    await turns()
    bench.publisher.answer(REQUESTS)
    taken = await second
    assert (taken.job.id, taken.is_replay) == ("key-a", True)
    assert first.cancelled()


async def test_request_that_timed_out_is_not_a_job_when_confirmed_late() -> None:
    """RabbitMQ may confirm it later; its client got 503, and the link does not send it again."""
    bench = Bench(confirm_timeout=0.01)
    del bench.publisher.automatic[REQUESTS]
    for number in range(3):
        with pytest.raises(BrokerUnavailable, match=f"not confirmed key-{number} on .* within"):
            await bench.intake.accept(ChargeIn(), ANONYMOUS, TRACE, f"key-{number}")
    for sent in bench.publisher.to(REQUESTS):
        assert not sent.wanted()
        bench.publisher.answer(REQUESTS, Outcome.CONFIRMED)
    await turns()
    assert [bench.log.job(f"key-{number}") for number in range(3)] == [None] * 3
    assert bench.publisher.events() == []


async def test_job_that_cannot_be_recorded_fails_only_its_own_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends neither the link to RabbitMQ nor the service."""
    async with Bench().serve() as bench:

        def record(_: Event) -> Job:
            raise ZeroDivisionError

        monkeypatch.setattr(bench.log, "record", record)
        assert (await bench.post({})).status == 500
        monkeypatch.undo()
        assert (await bench.post({})).status == 202


def decision(number: int) -> Event:
    """Return a decision among so many substations."""
    return assigned(f"job{number}", "s1", **{f"s{each}": 1 for each in range(number)})


async def test_large_decision_is_packed_later_by_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a thread of its own, a little later; a small one is kept as it is."""
    monkeypatch.setattr(log, "PACK_INTERVAL", 0.001)
    monkeypatch.setattr(projection, "MAX_UNPACKED_BYTES", 0)
    bench = Bench()
    bench.hear(decision(1), decision(1_000))
    few, many = bench.projection.get("job1"), bench.projection.get("job1000")
    assert few is not None
    assert many is not None
    assert few.assigned is not None
    assert not few.assigned.is_large
    assert many.assigned is not None
    assert many.assigned.is_large
    before = few.decision, many.decision
    packing = asyncio.create_task(bench.log.pack())
    await bench.until(lambda: many.assigned is not None and not many.assigned.is_large)
    packing.cancel()
    assert len(many.assigned.record) < MAX_UNPACKED_RECORD * 10
    assert (few.decision, many.decision) == before


def test_unpacked_decisions_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest are kept as they came; memory stays bounded while a long log is read."""
    size = len(wire.encode(dict(decision(1_009).detail)))
    monkeypatch.setattr(projection, "MAX_UNPACKED_BYTES", 2 * size)
    monkeypatch.setattr(projection, "MAX_WAITING_BYTES", 3 * size)
    known = Projection(100)

    def plain() -> list[str]:
        found = [known.get(f"job{number}") for number in range(1_000, 1_010)]
        return [each.id for each in found if each and each.assigned and each.assigned.is_large]

    for number in range(1_000, 1_010):
        known.apply(decision(number))
        known.apply(decision(number))
    assert plain() == [f"job{number}" for number in range(1_005, 1_010)]
    assert [job.id for job in known.pop_large()] == ["job1005", "job1006", "job1007"]
    assert known.pop_large() == []
    for number in (*range(1_000, 1_010), *range(200)):
        known.apply(Event(State.COMPLETED, AT, f"job{number}", "s1"))
    monkeypatch.setattr(projection, "MAX_UNPACKED_BYTES", 0)
    assert known.pop_large() == []  # they were dropped meanwhile


def sent_again(*sizes: int) -> list[Event]:
    """Return decisions over one job, each later than the one before, among so many substations."""
    return [
        replace(decision(size), job="again", attempt=attempt, at=AT + attempt)
        for attempt, size in enumerate(sizes, 1)
    ]


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param((100, 1_000), id="larger"),
        pytest.param((1_000, 100), id="smaller"),
        pytest.param((1_000, 1), id="small"),
        pytest.param((1, 1_000), id="large"),
        pytest.param((1_000, 1, 1_000, 100), id="again and again"),
    ],
)
def test_unpacked_bytes_count_only_the_latest_decision_of_a_job(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    """However often and however large: the bound on decisions as they came holds after it."""
    plain = decision(1_009)
    size = len(wire.encode(dict(plain.detail)))
    monkeypatch.setattr(projection, "MAX_UNPACKED_BYTES", 3 * size)
    known = Projection(2_000)
    for number in range(20):
        for event in sent_again(*sizes):
            known.apply(replace(event, job=f"again{number}"))
    for number in range(20):  # dropped, or packed, with what was counted for it
        known.apply(Event(State.COMPLETED, AT, f"again{number}", "s1"))
    for number in range(1_000, 1_006):
        known.apply(replace(plain, job=f"job{number}"))
    packed_away = [job.id for job in known.pop_large()]
    jobs = [known.get(f"job{number}") for number in range(1_000, 1_006)]
    names = [job.id for job in jobs if job is not None]
    assert [name for name in packed_away if name in names] == names[:3]
    kept = [job for job in known.after(None) if job.id not in packed_away]
    assert [job.id for job in kept if job.assigned and job.assigned.is_large] == names[3:]


async def test_past_events_are_frozen_for_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It walks through it no more while an api starts, and through what is new as ever."""
    monkeypatch.setattr(log, "FREEZE_EVERY", 2)
    bench = Bench()
    bench.log.caught_up.clear()
    try:
        gc.unfreeze()
        for number in range(3):
            bench.hear(Event(State.QUEUED, AT, f"j{number}", detail={"id": f"j{number}"}))
        frozen = gc.get_freeze_count()
        assert frozen > 0
        bench.log.caught_up.set()
        bench.hear(Event(State.QUEUED, AT, "j9"), Event(State.QUEUED, AT, "j8"))
        assert gc.get_freeze_count() <= frozen
    finally:
        gc.unfreeze()


class Cycle:
    """Something that refers to itself: the garbage collector alone ends it."""

    def __init__(self) -> None:
        self.itself = self


async def test_garbage_is_collected_though_past_events_are_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What nothing refers to any more, when what was read is frozen, is not frozen with it."""
    monkeypatch.setattr(log, "FREEZE_EVERY", 2)
    bench = Bench()
    bench.log.caught_up.clear()
    gc.disable()  # or it may be collected by chance before
    try:
        dead = [weakref.ref(Cycle()) for _ in range(100)]
        for number in range(2):
            bench.hear(Event(State.QUEUED, AT, f"j{number}", detail={"id": f"j{number}"}))
        assert gc.get_freeze_count() > 0
        gc.collect()
        assert [each() for each in dead] == [None] * 100
    finally:
        gc.enable()
        gc.unfreeze()


def test_a_message_with_a_uuid_is_written_by_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one of ten there is an e-4, as in a small number, which json.dumps writes otherwise."""
    monkeypatch.setattr("grid.wire._dumps", lambda _: pytest.fail("json.dumps was asked"))
    request = messages.ChargeRequest("1ec9414c-232a-6b0e-4c80-9e6bdeced846", AT)
    assert request.id.encode() in request.encode()
