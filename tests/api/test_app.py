"""What holds for every route: errors, readiness, metrics, the document."""

from __future__ import annotations

import json

import pytest

from tests.api.harness import FULL, PROBLEM, Bench, problem


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/charge/nobody", 404, "no job nobody"),
        ("GET", "/charge/%20", 422, "id"),
        ("GET", "/nowhere", 404, "/nowhere"),
        ("GET", "/charge", 405, "GET"),
        ("DELETE", "/substations", 405, "DELETE"),
        ("FLY", "/charge", 405, "FLY"),
    ],
)
async def test_every_error_is_a_problem_document(
    method: str, path: str, status: int, words: str
) -> None:
    """Every error has the same form, and says what was wrong."""
    async with Bench().serve() as bench:
        answer = await bench.ask(method, path)
        assert words in problem(answer, status)["detail"]
        assert (status == 405) == ("Allow" in answer.headers)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/charge", "POST"),
        ("PUT", "/charge/x", "DELETE, GET, HEAD"),
        ("PATCH", "/charges", "GET, HEAD, POST"),
        ("POST", "/substations/s1", "GET, HEAD, PATCH, PUT"),
        ("POST", "/metrics", "GET, HEAD"),
    ],
)
async def test_wrong_method_is_answered_with_the_allowed_ones(
    method: str, path: str, allowed: str
) -> None:
    """The header Allow lists the methods of all routes of that path."""
    async with Bench().serve() as bench:
        answer = await bench.ask(method, path)
        assert answer.status == 405
        assert answer.headers["Allow"] == allowed


async def test_unexpected_error_is_a_500_without_internal_details(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """500 as a problem document; the log has the details."""

    def fails(_: str) -> None:
        raise RuntimeError("the inside")

    async with Bench().serve() as bench:
        monkeypatch.setattr(bench.projection, "get", fails)
        answer = await bench.get("/charge/job1")
        assert "inside" not in json.dumps(problem(answer, 500))


async def test_readyz_lists_the_problems() -> None:
    """/healthz answers as long as the process does; /readyz names each problem."""
    async with Bench().serve() as bench:
        assert (await bench.get("/readyz")).status == 200
        bench.problems.append("RabbitMQ link api-requests is down")
        answer = await bench.get("/readyz")
        assert (answer.status, answer.body["problems"]) == (503, bench.problems)
        assert (await bench.get("/healthz")).status == 200


async def test_requests_are_counted_by_route_and_never_by_path() -> None:
    """No id, no unknown path and no invented method becomes a label."""
    async with Bench().serve() as bench:
        await bench.post()
        for path in ("/charge/job1", "/charge/nobody", "/charges?limit=0", "/nowhere"):
            await bench.get(path)
        await bench.ask("FLY", "/charge")
        page = (await bench.get("/metrics")).body
        assert "nobody" not in page
        assert "nowhere" not in page
        assert "FLY" not in page
        for method, route, status in (
            ("POST", "/charge", "202"),
            ("GET", "/charge/{id}", "200"),
            ("GET", "/charge/{id}", "404"),
            ("GET", "/charges", "422"),
            ("GET", "unmatched", "404"),
        ):
            labels = {"method": method, "route": route, "status": status}
            assert bench.count("requests_total", **labels) == 1, labels


async def test_document_lists_every_route_and_every_error() -> None:
    """Every operation declares its errors, as problem documents."""
    async with Bench().serve() as bench:
        document = (await bench.get("/openapi.json")).body
        assert (await bench.get("/docs")).status == 200
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations.keys() == {
        "POST /charge",
        "POST /charges",
        "GET /charge/{id}",
        "DELETE /charge/{id}",
        "POST /charge/{id}/cancel",
        "GET /charges",
        "GET /charges.csv",
        "GET /stats",
        "GET /events",
        "GET /substations",
        "GET /substations/{id}",
        "PUT /substations/{id}",
        "PATCH /substations/{id}",
        "GET /substations/{id}/limits",
        "PUT /substations/{id}/limits",
        "DELETE /substations/{id}/limits",
        "POST /parked/replay",
        "POST /parked/discard",
        "GET /metrics",
        "GET /healthz",
        "GET /readyz",
    }
    assert all(each.get("summary") for each in operations.values())
    taking = operations["POST /charge"]["responses"]
    assert taking.keys() == {*("202", "400", "401", "403", "413", "415", "422", "429", "503")}
    assert operations["GET /charge/{id}"]["responses"].keys() == {
        *("200", "400", "401", "403", "404", "422", "429", "503")
    }
    assert operations["GET /healthz"]["responses"].keys() == {"200", "400"}
    for status, answer in taking.items():
        assert list(answer["content"]) == [PROBLEM if int(status) >= 400 else "application/json"]
    fields = document["components"]["schemas"]["ChargeIn"]["properties"]
    assert fields.keys() == FULL.keys()
    names = {each["name"] for each in operations["GET /charges"]["parameters"]}
    assert names == {
        *("vehicle_id", "search", "status", "substation", "tenant", "promised"),
        *("since", "until", "order", "limit", "after"),
    }


async def test_api_looks_for_no_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has none, and FastAPI would look for it at each request."""
    asked: list[str] = []
    for each in ("trace.get_tracer_provider", "metrics.get_meter_provider"):
        monkeypatch.setattr(f"opentelemetry.{each}", lambda name=each: asked.append(name))
    async with Bench().serve() as bench:
        assert (await bench.get("/healthz")).status == 200
        await bench.post()
    assert asked == []
