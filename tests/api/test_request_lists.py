"""Many requests in one list."""

from __future__ import annotations

import asyncio

import pytest

from grid import messages
from grid.amqp import Outcome
from tests.api.harness import REQUESTS, Bench, problem


async def test_list_is_accepted_and_published_in_its_order() -> None:
    """One 202 for all, each with its own id and state."""
    async with Bench().serve() as bench:
        wanted = [{"vehicle_id": f"v{number}"} for number in range(1_000)]
        answer = await bench.post(wanted, "/charges")
        assert answer.status == 202
        assert [job["id"] for job in answer.body["jobs"]] == [f"job{n}" for n in range(1, 1_001)]
        sent = [messages.decode(each.body).vehicle_id for each in bench.publisher.to(REQUESTS)]
        assert sent == [each["vehicle_id"] for each in wanted]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "body"),
        ({}, "body"),
        ([], "body"),
        ([{}] * 1_001, "body"),
        ([{}, 7], "1"),
        ([{}, {"priority": 11}], "1.priority"),
        ([{}, {"color": "red"}], "1.color"),
        ([{}, {}, {"vehicle_id": "\n"}], "2.vehicle_id"),
        ([{}, {"departure_time": "2020-01-01T00:00:00Z"}], "1.departure_time"),
    ],
)
async def test_invalid_item_of_a_list_is_named(body: object, field: str) -> None:
    """422 with the item's number and field; none of the list is accepted."""
    async with Bench().serve() as bench:
        found = problem(await bench.post(body, "/charges"), 422)
        assert [each["field"] for each in found["errors"]] == [field]
        assert bench.publisher.sent == []


async def test_list_of_invalid_items_is_answered_with_the_first() -> None:
    """A list within the size limit could have a hundred thousand errors, and block the api."""
    async with Bench().serve() as bench:
        wrong = [{f"f{n}": 1 for n in range(100)} for _ in range(1_000)]
        found = problem(await bench.post(wrong, "/charges"), 422)
        assert {each["field"].split(".")[0] for each in found["errors"]} == {"0"}
        assert found["detail"].endswith("and 80 more")
        found = problem(await bench.post([{f"f{n}": 1 for n in range(257)}], "/charges"), 422)
        [error] = found["errors"]
        assert error["field"] == "0"
        assert error["problem"].startswith("must have at most 256 fields")


async def test_partly_accepted_list_names_the_accepted_ids() -> None:
    """503 naming the ids that RabbitMQ has, so that the client can send the others again."""
    async with Bench().serve() as bench:
        del bench.publisher.automatic[REQUESTS]  # RabbitMQ does not answer
        asking = asyncio.create_task(bench.post([{}, {}, {}], "/charges"))
        await bench.until(lambda: len(bench.publisher.waiting) == 3)
        for outcome in (Outcome.CONFIRMED, Outcome.REFUSED, Outcome.CONFIRMED):
            bench.publisher.answer(REQUESTS, outcome)
        answer = await asking
        found = problem(answer, 503)
        assert found["accepted"] == ["job1", "job3"]
        assert "2 of the list were accepted" in found["detail"]
        assert answer.headers["Retry-After"]
        listed = (await bench.get("/charges")).body["charges"]
        assert [each["id"] for each in listed] == ["job1", "job3"]
