"""Nothing is accepted while RabbitMQ does not confirm it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from api import intake
from api.jobs import event_log as log
from grid import event_log, topology
from grid.amqp import Outcome, Publication
from grid.events import Event, State
from grid.messages import ChargeRequest
from tests.api.harness import AT, REQUESTS, Bench, problem
from tests.fake_broker import turns


def away(bench: Bench) -> None:
    """RabbitMQ cannot be reached."""
    bench.publisher.up.clear()


def blocked(bench: Bench) -> None:
    """RabbitMQ is short of memory."""
    bench.publisher.blocked = True


def full(bench: Bench) -> None:
    """charge.requests is at its limit."""
    bench.publisher.automatic[REQUESTS] = Outcome.REFUSED


def silent(bench: Bench) -> None:
    """RabbitMQ does not answer."""
    del bench.publisher.automatic[REQUESTS]


def behind(bench: Bench) -> None:
    """Very many requests wait for RabbitMQ's answer."""
    for number in range(intake.MAX_BACKLOG):
        bench.publisher.publish("x", "x", b"", lambda _: None, id=str(number))


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (away, "RabbitMQ is away"),
        (blocked, "short of memory or disk"),
        (full, "refused"),
        (silent, "has not confirmed"),
        (behind, "10000 requests wait"),
    ],
)
@pytest.mark.parametrize("path", ["/charge", "/charges"])
async def test_request_is_503_while_rabbitmq_does_not_confirm(
    trouble: Callable[[Bench], None], words: str, path: str
) -> None:
    """503 with Retry-After and the reason, while RabbitMQ does not confirm."""
    async with Bench(confirm_timeout=0.05).serve() as bench:
        trouble(bench)
        answer = await bench.post([{}] if path == "/charges" else {}, path)
        assert words in problem(answer, 503)["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
        assert "accepted" not in answer.body
        assert (await bench.get("/charges")).body["charges"] == []


class Failing:
    """A way of publishing that raises for the requests with these numbers, counted from 1."""

    def __init__(self, bench: Bench, *numbers: int) -> None:
        self._publish = bench.publisher.publish
        self._numbers = numbers
        self._count = 0

    def __call__(self, exchange: str, *args: Any, **kwargs: Any) -> Publication:  # noqa: ANN401
        """Publish a message, or raise."""
        self._count += exchange == topology.REQUESTS_EXCHANGE
        if exchange == topology.REQUESTS_EXCHANGE and self._count in self._numbers:
            raise ZeroDivisionError("at the publisher")
        return self._publish(exchange, *args, **kwargs)


async def test_request_that_cannot_be_published_can_be_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its client is answered 500 at once; a retry with the same key is published."""
    async with Bench().serve() as bench:
        monkeypatch.setattr(bench.publisher, "publish", Failing(bench, 1))
        async with asyncio.timeout(4):  # less than until RabbitMQ must have confirmed
            problem(await bench.post({}, Idempotency_Key="a"), 500)
            again = await bench.post({}, Idempotency_Key="a")
        assert again.status == 202
        assert "Idempotency-Replayed" not in again.headers
        assert [each.id for each in bench.publisher.to(REQUESTS)] == [again.body["id"]]


async def test_list_with_a_failed_publish_names_the_accepted_ids(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those before it and after it; sent again with the same key, all are accepted."""
    async with Bench().serve() as bench:
        monkeypatch.setattr(bench.publisher, "publish", Failing(bench, 2))
        answer = await bench.post([{}, {}, {}], "/charges", Idempotency_Key="a")
        ids = [each.id for each in bench.publisher.to(REQUESTS)]
        assert len(ids) == 2
        found = problem(answer, 503)
        assert found["accepted"] == ids
        assert "2 of the list were accepted, then: the server failed" in found["detail"]
        assert "ZeroDivisionError: at the publisher" in caplog.text
        again = await bench.post([{}, {}, {}], "/charges", Idempotency_Key="a")
        assert again.status == 202
        assert len(bench.publisher.to(REQUESTS)) == 3
        assert [job["id"] for job in again.body["jobs"]][::2] == ids


async def test_list_is_answered_500_if_nothing_could_be_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether or not RabbitMQ refused another one of it."""
    async with Bench().serve() as bench:
        bench.publisher.automatic[REQUESTS] = Outcome.REFUSED
        monkeypatch.setattr(bench.publisher, "publish", Failing(bench, 2))
        problem(await bench.post([{}, {}], "/charges"), 500)


@pytest.mark.parametrize("path", ["/charge", "/charges"])
async def test_request_that_cannot_be_encoded_can_be_sent_again(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Nothing of its list is published; a retry with the same key is."""

    def encode(request: ChargeRequest) -> bytes:
        if request.priority == 1:
            raise ZeroDivisionError
        return b"{}"

    one = {"priority": 1}
    body = [{}, one] if path == "/charges" else one
    async with Bench().serve() as bench:
        with monkeypatch.context() as patch:
            patch.setattr(ChargeRequest, "encode", encode)
            problem(await bench.post(body, path, Idempotency_Key="a"), 500)
            assert bench.publisher.sent == []
        assert (await bench.post(body, path, Idempotency_Key="a")).status == 202


async def test_queued_event_is_written_once_the_event_log_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise no other api would know the job, nor this one after its next start."""
    monkeypatch.setattr(event_log, "TRIES", 1)
    monkeypatch.setattr(log, "RETRY_INTERVAL", 0)
    async with Bench().serve() as bench:
        bench.publisher.automatic[topology.EVENTS] = Outcome.UNROUTABLE
        assert (await bench.post({})).status == 202
        await turns(50)
        assert len(bench.publisher.events(State.QUEUED)) > 2
        bench.publisher.automatic[topology.EVENTS] = Outcome.CONFIRMED
        await turns(50)
        written = len(bench.publisher.events(State.QUEUED))
        await turns(50)
        assert len(bench.publisher.events(State.QUEUED)) == written
        assert bench.count("events_lost_total") == 0


async def test_events_beyond_the_maximum_waiting_are_counted_as_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing gathers in memory without bound."""
    monkeypatch.setattr(event_log, "TRIES", 1)
    monkeypatch.setattr(log, "MAX_UNWRITTEN", 1)
    async with Bench().serve() as bench:
        bench.publisher.automatic[topology.EVENTS] = Outcome.UNROUTABLE
        for number in range(3):
            bench.log.record(Event(State.QUEUED, AT, f"j{number}"))
        await turns()
        assert bench.count("events_lost_total") == 2


async def test_api_accepts_nothing_that_it_could_not_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it answers 202 is named by the event log later; the rest is 503, until there is one."""
    monkeypatch.setattr(event_log, "TRIES", 1)
    monkeypatch.setattr(log, "RETRY_INTERVAL", 0)
    monkeypatch.setattr(log, "MAX_UNWRITTEN", 2)
    async with Bench().serve() as bench:
        bench.publisher.automatic[topology.EVENTS] = Outcome.UNROUTABLE
        assert [(await bench.post({})).status for _ in range(3)] == [202, 202, 503]
        answer = await bench.post({})
        assert "wait to be put on record in the event log" in problem(answer, 503)["detail"]
        bench.publisher.automatic[topology.EVENTS] = Outcome.CONFIRMED
        await turns(50)
        assert (await bench.post({})).status == 202
        assert {each.job for each in bench.publisher.events(State.QUEUED)} == {
            each.id for each in bench.publisher.to(REQUESTS)
        }
        assert bench.count("events_lost_total") == 0
