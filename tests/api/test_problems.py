"""Problem documents: each has a stable code, and a type that is a page of the docs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256

import pytest

from api import auth
from api import problem_types as types
from api.jobs import feed
from grid.amqp import Outcome
from grid.events import SUBSTATIONS, Event, State
from tests.api.harness import AT, JSON, REQUESTS, Answer, Bench, problem

SECRET = "the fleet's key"  # noqa: S105
KEYS = auth.parse_keys(f"fleet client {sha256(SECRET.encode()).hexdigest()}")
BEARER = ("Authorization", f"Bearer {SECRET}")
Ask = Callable[[Bench], Awaitable[Answer]]


async def _unavailable(bench: Bench) -> Answer:
    bench.publisher.up.clear()
    return await bench.post()


async def _not_caught_up(bench: Bench) -> Answer:
    bench.log.caught_up.clear()
    return await bench.get("/charges")


async def _reused(bench: Bench) -> Answer:
    await bench.post(Idempotency_Key="one")
    return await bench.post({"priority": 1}, Idempotency_Key="one")


async def _partly(bench: Bench) -> Answer:
    del bench.publisher.automatic[REQUESTS]
    asking = asyncio.create_task(bench.post([{}, {}], "/charges"))
    await bench.until(lambda: len(bench.publisher.waiting) == 2)
    bench.publisher.answer(REQUESTS, Outcome.CONFIRMED)
    bench.publisher.answer(REQUESTS, Outcome.REFUSED)
    return await asking


async def _ended(bench: Bench) -> Answer:
    await bench.post()
    bench.hear(Event(State.COMPLETED, AT, "job1", "s1"))
    return await bench.ask("DELETE", "/charge/job1")


async def _impossible(bench: Bench) -> Answer:
    bench.hear(Event(SUBSTATIONS, AT, detail={"substations": [{"substation": "s1"}]}))
    return await bench.post({"eligible_substations": ["s9"]})


async def _too_many(bench: Bench) -> Answer:
    for _ in range(feed.MAX_READERS):
        await bench.feed.open(feed.Selection(job="j1"), None, ())
    return await bench.get("/events")


CASES: dict[str, Ask] = {
    "malformed-json": lambda b: b.ask("POST", "/charge", b"{", [JSON]),
    "repeated-header": lambda b: b.ask("GET", "/charges", None, [BEARER, BEARER]),
    "unknown-key": lambda b: b.ask("GET", "/charges", None, [("Authorization", "Bearer x")]),
    "cross-origin": lambda b: b.ask("GET", "/charges", None, [("Host", "elsewhere.example")]),
    "scope-required": lambda b: b.ask("PUT", "/substations/s1", b"{}", [JSON, BEARER]),
    "unknown-path": lambda b: b.get("/nothing"),
    "unknown-job": lambda b: b.get("/charge/nobody"),
    "method-not-allowed": lambda b: b.ask("DELETE", "/charges"),
    "already-ended": _ended,
    "body-too-large": lambda b: b.ask("POST", "/charge", b" " * 70_000, [JSON]),
    "not-json": lambda b: b.ask("POST", "/charge", b"x", [("Content-Type", "text/plain")]),
    "invalid-field": lambda b: b.post({"priority": 10}),
    "impossible-request": _impossible,
    "idempotency-key-reused": _reused,
    "rabbitmq-unavailable": _unavailable,
    "not-caught-up": _not_caught_up,
    "partly-accepted": _partly,
    "too-many-streams": _too_many,
}


@pytest.mark.parametrize("code", CASES)
async def test_problem_document_has_its_code_and_the_address_of_its_page(code: str) -> None:
    """The type is the address of a page, which is there; code and status say the same."""
    kind = types.TYPES[code]
    async with Bench(keys=KEYS).serve() as bench:
        found = problem(await CASES[code](bench), kind.status)
        assert (found["code"], found["type"]) == (code, f"/docs/problems/{code}")
        page = await bench.get(found["type"])
        assert page.status == 200
        assert kind.meaning.split(",")[0] in page.body


async def test_every_problem_type_has_a_page_and_they_are_listed() -> None:
    """The pages are read with keys required too; a code that is not there is 404."""
    async with Bench(keys=KEYS, closed=True).serve() as bench:
        listed = (await bench.get("/docs/problems")).body
        for code, kind in types.TYPES.items():
            assert f'href="/docs/problems/{code}"' in listed
            page = await bench.get(kind.uri)
            assert (page.status, str(kind.status.value) in page.body) == (200, True)
            assert page.headers["Content-Type"].startswith("text/html")
        problem(await bench.get("/docs/problems/nothing"), 404)


def test_problem_codes_stay() -> None:
    """Programs act by them: a code may be added, and none may go or get another status."""
    stay = {
        "malformed-json": 400,
        "malformed-request": 400,
        "repeated-header": 400,
        "key-required": 401,
        "unknown-key": 401,
        "cross-origin": 403,
        "scope-required": 403,
        "unknown-path": 404,
        "unknown-job": 404,
        "unknown-substation": 404,
        "method-not-allowed": 405,
        "already-ended": 409,
        "body-too-large": 413,
        "not-json": 415,
        "invalid-field": 422,
        "impossible-request": 422,
        "idempotency-key-reused": 422,
        "rate-limited": 429,
        "internal-error": 500,
        "rabbitmq-unavailable": 503,
        "not-caught-up": 503,
        "partly-accepted": 503,
        "too-many-streams": 503,
    }
    assert {code: kind.status for code, kind in types.TYPES.items()}.items() >= stay.items()
