"""Repeated headers, trailing slashes, and HEAD."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.harness import JSON, REQUESTS, Bench, problem

KEY = ("Idempotency-Key", "a")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Idempotency-Key", ("a", "b")),
        ("Idempotency-Key", ("a", "a")),
        ("idempotency-key", ("a", "b")),
        ("Authorization", ("Bearer a", "Bearer b")),
        ("Content-Type", ("application/json", "text/plain")),
        ("Origin", ("http://localhost", "https://elsewhere.example")),
        ("Sec-Fetch-Site", ("none", "cross-site")),
    ],
)
async def test_repeated_single_header_is_rejected(name: str, values: tuple[str, str]) -> None:
    """400 that names it: the api does not guess which of the two was meant."""
    async with Bench().serve() as bench:
        headers = [(name, each) for each in values]
        found = problem(await bench.ask("POST", "/charge", b"{}", headers), 400)
        assert name.lower() in found["detail"].lower()
        assert bench.publisher.sent == []


async def test_all_repeated_single_headers_are_named_at_once() -> None:
    """By their usual names."""
    async with Bench().serve() as bench:
        found = problem(await bench.ask("POST", "/charge", b"{}", [KEY, JSON, KEY, JSON]), 400)
        assert "Content-Type and Idempotency-Key" in found["detail"]


async def test_repeated_list_headers_are_joined() -> None:
    """Prefer and tracestate are joined, in their order; unread headers may come twice."""
    parent = ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")
    headers = [
        ("Prefer", "wait=5"),
        ("tracestate", "one=1"),
        parent,
        ("X-Own", "1"),
        ("Prefer", "respond-async"),
        ("tracestate", "two=2"),
        ("X-Own", "2"),
    ]
    async with Bench().serve() as bench:
        answer = await bench.ask("POST", "/charge", None, headers)
        assert answer.status == 202
        assert answer.headers["Preference-Applied"] == "respond-async"
        (sent,) = bench.publisher.to(REQUESTS)
        assert sent.headers["tracestate"] == "one=1,two=2"
        assert "a" * 32 in sent.headers["traceparent"]


async def test_request_with_two_traceparents_starts_a_new_trace() -> None:
    """The request is accepted, and neither of the two is used."""
    parents = [("traceparent", f"00-{each * 32}-{each * 16}-01") for each in "ab"]
    async with Bench().serve() as bench:
        answer = await bench.ask("POST", "/charge", None, parents)
        assert answer.status == 202
        assert not any(each * 32 in answer.headers["traceresponse"] for each in "ab")


async def test_two_media_types_in_one_header_are_not_json() -> None:
    """Even where the last of them is."""
    async with Bench().serve() as bench:
        for kind in ("text/plain, application/x+json", "application/json, text/plain", "/+json"):
            headers = [("Content-Type", kind)]
            problem(await bench.ask("POST", "/charge", b"{}", headers), 415)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/charge", 202),
        ("POST", "/charges", 422),
        ("GET", "/charges", 200),
        ("GET", "/charges?limit=1", 200),
        ("GET", "/charge/nobody", 404),
        ("GET", "/charge", 405),
        ("GET", "/substations", 200),
        ("PUT", "/substations/s1", 401),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/healthz", 200),
        ("GET", "/nowhere", 404),
    ],
)
async def test_trailing_slash_changes_nothing(method: str, path: str, status: int) -> None:
    """No redirect, which few clients follow with a POST."""
    page, question, query = path.partition("?")
    async with Bench().serve() as bench:
        for each in (path, f"{page}/{question}{query}"):
            assert (await bench.ask(method, each)).status == status
        assert (await bench.get(f"{page}//")).status == 404
        assert (await bench.get("/")).status == 200


async def test_encoded_slash_within_an_id_is_kept() -> None:
    """Sent as %2F it is a part of the name, which no job has."""
    async with Bench().serve() as bench:
        await bench.post()
        assert (await bench.get("/charge/job1/")).status == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(b"GET /charge/job1%2F HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
        writer.close()


async def test_trailing_slash_bypasses_neither_limit_nor_authentication() -> None:
    """Authentication and the size limit see the path without the slash."""
    async with Bench(closed=True).serve() as bench:
        assert (await bench.ask("GET", "/healthz/")).status == 200
        problem(await bench.ask("POST", "/charge/"), 401)
    async with Bench().serve() as bench:
        body = b"[" + b" " * 70_000 + b"{}]"  # more than the limit of any other path
        assert (await bench.ask("POST", "/charges/", body, [JSON])).status == 202
        for path in ("/charge/", "/charge"):
            problem(await bench.ask("POST", path, b" " * 70_000, [JSON]), 413)
        assert bench.count("requests_total", method="POST", route="/charge", status="413") == 2


@pytest.mark.parametrize(
    "path", ["/healthz", "/metrics", "/readyz", "/charges", "/charge/x", "/docs", "/openapi.json"]
)
async def test_head_is_answered_like_get(path: str) -> None:
    """With GET's status and headers, and no body; it is counted as HEAD."""
    async with Bench().serve() as bench:
        page, head = await bench.get(path), await bench.ask("HEAD", path)
        assert head.status == page.status
        assert head.body == ""
        assert head.headers["Content-Type"] == page.headers["Content-Type"]
        # FastAPI's own route for its document has no name in the metrics
        route = {"/charge/x": "/charge/{id}", "/openapi.json": "unmatched"}.get(path, path)
        assert bench.count("requests_total", method="HEAD", route=route, status=str(head.status))


async def test_head_without_a_get_route_is_405() -> None:
    """405, as for any other method."""
    async with Bench().serve() as bench:
        answer = await bench.ask("HEAD", "/charge")
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert bench.publisher.sent == []
