"""The spans of the api: one for each recorded request, whatever answers it."""

from __future__ import annotations

import json

import pytest

from grid.amqp import Outcome
from grid.trace import SAMPLED, Sampler
from tests.api.harness import AT, JSON, REQUESTS, Bench

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = ("traceparent", f"00-{TRACE}-{CALLER}-01")
UNRECORDED = ("traceparent", PARENT[1][:-1] + "0")
EVERY, NONE = Sampler(1, keeps_flag=True), Sampler(0, keeps_flag=True)
LEFT_TO_FASTAPI = ("Content-Type", "application/json;charset=UTF-8")


@pytest.mark.parametrize("path", ["/charge", "/charges"])
@pytest.mark.parametrize("kind", [JSON, LEFT_TO_FASTAPI], ids=["shortcut", "FastAPI"])
async def test_api_records_span_of_a_sampled_request(path: str, kind: tuple[str, str]) -> None:
    """A child of its caller's, and the parent of what the dispatcher does."""
    data = json.dumps([{}, {}] if path == "/charges" else {})
    async with Bench().serve() as bench:
        await bench.ask("POST", path, data, [kind, UNRECORDED])
        assert bench.spans == []
        await bench.ask("POST", path, data, [kind, PARENT])
    [span] = bench.spans
    assert (span.name, span.kind, span.error) == (f"POST {path}", "server", "")
    assert (span.trace.trace_id, span.trace.parent) == (TRACE, CALLER)
    assert span.ended == AT
    assert AT - 10 < span.began <= AT
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": path,
        "http.response.status_code": 202,
    }
    sent = bench.publisher.to(REQUESTS)[-1]
    assert sent.headers["traceparent"] == f"00-{TRACE}-{span.trace.span_id}-01"


async def test_api_records_span_of_a_request_that_fails() -> None:
    """503 is the server's error; what a client got wrong is none."""
    async with Bench().serve() as bench:
        await bench.ask("POST", "/charge", json.dumps({"priority": 10}), [JSON, PARENT])
        bench.publisher.automatic["charge.requests"] = Outcome.REFUSED
        await bench.ask("POST", "/charge", None, [PARENT])
    found = [(each.attributes["http.response.status_code"], each.error) for each in bench.spans]
    assert found == [(422, ""), (503, "Service Unavailable")]


@pytest.mark.parametrize(
    ("sampler", "headers", "recorded"),
    [
        (None, [], False),
        (EVERY, [], True),
        (NONE, [], False),
        (EVERY, [UNRECORDED], False),
        (NONE, [PARENT], True),
    ],
)
async def test_api_samples_traces_that_begin_at_it(
    sampler: Sampler | None, headers: list[tuple[str, str]], *, recorded: bool
) -> None:
    """Every service after it follows the flag that it sends."""
    async with Bench(sampler=sampler).serve() as bench:
        for kind in (JSON, LEFT_TO_FASTAPI):
            answer = await bench.ask("POST", "/charge", "{}", [kind, *headers])
            assert int(answer.headers["traceresponse"][-2:], 16) == SAMPLED * recorded
    assert len(bench.spans) == 2 * recorded
