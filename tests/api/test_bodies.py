"""Bodies that are not JSON, are not declared as such, or are too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from api import middleware
from tests.api.harness import JSON, REQUESTS, Bench, problem


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "not JSON"),
        (b"{'priority': 3}", "not JSON"),
        (b'{"vehicle_id": "\xe9"}', "utf-8"),
        (b"[" * 30_000, "recursion"),
        (b'{"requested_energy_kwh": ' + b"9" * 5_000 + b"}", "digits"),
    ],
)
async def test_api_rejects_a_body_that_is_not_json(data: bytes, words: str) -> None:
    """400 for the body as a whole, with the JSON reader's error: no field of it can be named."""
    async with Bench().serve() as bench:
        found = problem(await bench.ask("POST", "/charge", data, [JSON]), 400)
        assert found["code"] == "malformed-json"
        assert [each["field"] for each in found["errors"]] == ["body"]
        assert "not JSON" in found["detail"]
        assert words in found["detail"]


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "json", None]
)
@pytest.mark.parametrize("path", ["/charge", "/charges"])
async def test_api_rejects_a_body_that_is_not_declared_as_json(kind: str | None, path: str) -> None:
    """415 that says which header to send: curl declares a form by default."""
    async with Bench().serve() as bench:
        headers = [("Content-Type", kind)] if kind else []
        found = problem(await bench.ask("POST", path, b'{"priority": 3}', headers), 415)
        assert "Content-Type: application/json" in found["detail"]
        assert (kind or "got none") in found["detail"]
        assert bench.publisher.sent == []


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"]
)
async def test_other_declarations_of_json_are_accepted(kind: str) -> None:
    """Upper case, parameters and media types derived from JSON are accepted."""
    async with Bench().serve() as bench:
        answer = await bench.ask("POST", "/charge", b"{}", [("Content-Type", kind)])
        assert answer.status == 202


async def test_empty_body_needs_no_content_type() -> None:
    """`curl -X POST -d ''` declares an empty form: a request with default values."""
    async with Bench().serve() as bench:
        form = [("Content-Type", "application/x-www-form-urlencoded")]
        assert (await bench.ask("POST", "/charge", b"", form)).status == 202


async def chunks(size: int) -> AsyncIterator[bytes]:
    """Yield ``size`` bytes without declaring a length."""
    for _ in range(size // 1_000):
        yield b" " * 1_000


@pytest.mark.parametrize(
    ("path", "limit"), [("/charge", 64 * 1024), ("/charges", 1024 * 1024), ("/nowhere", 0)]
)
@pytest.mark.parametrize("counted", [True, False])
async def test_api_rejects_a_body_above_the_size_limit(
    path: str,
    limit: int,
    counted: bool,  # noqa: FBT001
) -> None:
    """413 naming the limit, whether the length is declared or not; and the answer arrives."""
    async with Bench().serve() as bench:
        for size in (limit + 1_000, limit + 3_000_000):
            data = b" " * size if counted else chunks(size)
            answer = await bench.ask("POST", path, data, [JSON])
            if path == "/nowhere":
                problem(answer, 404)
            else:
                assert f"{limit} bytes" in problem(answer, 413)["detail"]
        assert bench.publisher.sent == []


async def test_api_accepts_a_body_at_the_size_limit() -> None:
    """64 KiB exactly is not too long."""
    async with Bench().serve() as bench:
        data = b"{" + b" " * (64 * 1024 - 2) + b"}"
        assert (await bench.ask("POST", "/charge", data, [JSON])).status == 202


async def test_bytes_beyond_the_content_length_are_not_part_of_the_body() -> None:
    """Bytes beyond the declared length are not part of the body, and the server goes on."""
    async with Bench().serve() as bench:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        head = b"POST /charge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(head + b"Content-Length: 2\r\n\r\n{}" + b"x" * 200_000)
        first = await reader.readuntil(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 202 ")
        writer.close()
        assert len(bench.publisher.to(REQUESTS)) == 1
        assert (await bench.get("/healthz")).status == 200


async def test_api_answers_while_an_oversized_body_never_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the limit the api discards the body for a limited time, and then answers the client."""
    monkeypatch.setattr(middleware, "DRAIN_TIMEOUT", 0.05)

    async def endless() -> AsyncIterator[bytes]:
        yield b" " * 70_000
        await asyncio.Event().wait()

    async with Bench().serve() as bench:
        sending = bench.ask("POST", "/charge", endless(), [JSON])
        problem(await asyncio.wait_for(sending, 5), 413)
