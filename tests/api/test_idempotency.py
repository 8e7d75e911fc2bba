"""Requests with the same key are one job: sent twice, at once, after a restart, to another api."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import auth
from api.idempotency import job_id
from grid import messages, topology
from grid.amqp import Outcome
from grid.events import Event, State
from grid.messages import valid_job_id
from tests.api.harness import AT, Bench

REQUESTS = topology.REQUESTS
BUS = {"vehicle_id": "bus-7", "priority": 3, "eligible_substations": ["s1", "s2"]}


async def test_repeated_request_with_its_key_is_the_same_job() -> None:
    """The second answer equals the first and is marked as replayed; nothing more is published."""
    async with Bench().serve() as api:
        first = await api.post(BUS, Idempotency_Key="a-1")
        again = await api.post(BUS, Idempotency_Key="a-1")
        assert (first.status, again.status) == (202, 202)
        assert first.body["id"] == again.body["id"]
        assert first.headers["Location"] == again.headers["Location"]
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["Idempotency-Replayed"] == "true"
        assert len(api.publisher.to(REQUESTS)) == 1


async def test_simultaneous_requests_with_one_key_are_one_job() -> None:
    """The later ones wait until the first is confirmed or refused."""
    async with Bench().serve() as api:
        del api.publisher.automatic[REQUESTS]
        asking = [asyncio.create_task(api.post(BUS, Idempotency_Key="a")) for _ in range(3)]
        await api.until(lambda: len(api.publisher.to(REQUESTS)) == 1)
        await asyncio.sleep(0.05)
        api.publisher.answer(REQUESTS)
        answers = await asyncio.gather(*asking)
        assert [each.status for each in answers] == [202] * 3
        assert len({each.body["id"] for each in answers}) == 1
        assert len(api.publisher.to(REQUESTS)) == 1


async def test_different_list_with_the_key_of_one_in_progress_is_rejected() -> None:
    """422 that names the request, before any of it is published; the first list is accepted."""
    async with Bench().serve() as api:
        del api.publisher.automatic[REQUESTS]
        first = asyncio.create_task(api.post([BUS, BUS], "/charges", Idempotency_Key="a"))
        await api.until(lambda: len(api.publisher.to(REQUESTS)) == 2)
        other = await api.post([BUS, {}, {}], "/charges", Idempotency_Key="a")
        assert other.status == 422
        assert other.body["errors"][0]["field"] == "1.Idempotency-Key"
        for _ in range(2):
            api.publisher.answer(REQUESTS)
        assert (await first).status == 202
        assert len(api.publisher.to(REQUESTS)) == 2


async def test_idempotency_key_of_another_request_is_rejected() -> None:
    """422 that names the header; the job stays as it is."""
    async with Bench().serve() as api:
        await api.post(BUS, Idempotency_Key="a")
        answer = await api.post(BUS | {"priority": 9}, Idempotency_Key="a")
        assert answer.status == 422
        assert answer.body["errors"][0]["field"] == "Idempotency-Key"
        assert len(api.publisher.to(REQUESTS)) == 1


async def test_retry_after_the_departure_is_the_same_job() -> None:
    """A request that was accepted in time is not refused when it is retried late."""
    async with Bench().serve() as api:
        leaves = {"departure_time": "2026-01-01T00:00:01Z"}
        first = await api.post(leaves, Idempotency_Key="a")
        assert first.status == 202
        api.at = AT + 60
        assert (await api.post(leaves, Idempotency_Key="a")).body["id"] == first.body["id"]
        assert (await api.post(leaves, Idempotency_Key="b")).status == 422


async def test_retry_after_a_restart_is_found_in_the_event_log() -> None:
    """An api that never saw the request answers with the job that another api accepted."""
    named = job_id("none", "a")
    async with Bench().serve() as api:
        detail = messages.ChargeRequest(named, AT, vehicle_id="bus-7", priority=3).fields()
        api.hear(
            Event(State.QUEUED, AT, named, detail=detail),
            Event(State.COMPLETED, AT + 9, named, "s1"),
        )
        same = {"vehicle_id": "bus-7", "priority": 3}
        answer = await api.post(same, Idempotency_Key="a")
        assert (answer.status, answer.body["id"], answer.body["status"]) == (
            202,
            named,
            "completed",
        )
        assert (await api.post(BUS, Idempotency_Key="a")).status == 422
        assert api.publisher.to(REQUESTS) == []


async def test_retry_of_a_retired_job_is_the_same_job() -> None:
    """Many jobs later the answer names the first job; another request with its key is refused."""
    async with Bench(max_jobs=3).serve() as api:
        first = await api.post(BUS, Idempotency_Key="a")
        api.hear(Event(State.COMPLETED, AT + 9, first.body["id"], "s1"))
        for number in range(9):
            await api.post({"vehicle_id": f"bus-{number}"})
        again = await api.post(BUS, Idempotency_Key="a")
        assert (again.body["id"], again.body["status"]) == (first.body["id"], "completed")
        assert again.headers["Idempotency-Replayed"] == "true"
        assert (await api.post({}, Idempotency_Key="a")).status == 422
        assert len(api.publisher.to(REQUESTS)) == 10


async def test_request_with_a_key_is_503_until_the_event_log_is_read() -> None:
    """503 with Retry-After for a request with a key; those without a key are accepted."""
    async with Bench().serve() as api:
        api.log.caught_up.clear()
        answer = await api.post(BUS, Idempotency_Key="a")
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        assert (await api.post(BUS)).status == 202


async def test_idempotency_key_can_be_used_again_after_a_refusal() -> None:
    """If RabbitMQ did not take the request, its key can be used again, with the same job id."""
    async with Bench().serve() as api:
        api.publisher.automatic[REQUESTS] = Outcome.REFUSED
        assert (await api.post(BUS, Idempotency_Key="a")).status == 503
        api.publisher.automatic[REQUESTS] = Outcome.CONFIRMED
        assert (await api.post(BUS, Idempotency_Key="a")).body["id"] == job_id("none", "a")


async def test_list_sent_again_with_its_key_is_the_same_jobs() -> None:
    """Each request of a list is a job of its own, even if two are equal."""
    async with Bench().serve() as api:
        first = await api.post([BUS, BUS, {}], "/charges", Idempotency_Key="a")
        again = await api.post([BUS, BUS, {}], "/charges", Idempotency_Key="a")
        ids = [job["id"] for job in first.body["jobs"]]
        assert len(set(ids)) == 3
        assert [job["id"] for job in again.body["jobs"]] == ids
        assert len(api.publisher.to(REQUESTS)) == 3


async def test_same_idempotency_key_of_two_callers_is_two_jobs() -> None:
    """The same idempotency key from another API key is another job."""
    words = {"one": "a word", "two": "another"}
    lines = [f"{name} client {sha256(key.encode()).hexdigest()}" for name, key in words.items()]
    async with Bench(keys=auth.parse_keys("\n".join(lines)), closed=True).serve() as api:
        ids = {
            (await api.post(BUS, Idempotency_Key="a", Authorization=f"Bearer {key}")).body["id"]
            for key in words.values()
        }
        assert len(ids) == 2


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "caf\u00e9"])
async def test_idempotency_key_of_invalid_form_is_rejected(key: str) -> None:
    """422 that names the header: 1 to 255 visible characters."""
    async with Bench().serve() as api:
        answer = await api.post(BUS, Idempotency_Key=key)
        assert answer.status == 422
        assert answer.body["errors"][0]["field"].lower() == "idempotency-key"
        assert api.publisher.to(REQUESTS) == []


@given(st.text(), st.text(), st.integers(0, 1000))
def test_every_idempotency_key_leads_to_a_valid_job_id(caller: str, key: str, number: int) -> None:
    """The id is valid as a message id and in an address, and always the same for the same key."""
    assert valid_job_id(job_id(caller, key, number))
    assert job_id(caller, key, number) == job_id(caller, key, number)
    assert job_id(caller, key, number) != job_id(caller, key + "x", number)
