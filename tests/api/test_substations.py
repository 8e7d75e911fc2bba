"""Draining and capping a substation over HTTP, with an operator's key."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from api import auth
from api.auth import OPEN_PATHS
from grid import controls, topology
from grid.amqp import Outcome
from grid.controls import MAX_LIMIT, Availability, Control
from grid.events import SUBSTATIONS, Event
from tests.api.harness import AT, JSON, PROBLEM, Answer, Bench, problem

CONTROLS = topology.CONTROLS
SECRET, CLIENT = "the-depots-kéy", "the-fleets-key"


def line(name: str, scope: str, secret: str) -> str:
    """Return a line of the file of keys."""
    return f"{name} {scope} {sha256(secret.encode()).hexdigest()}\n"


KEYS = auth.parse_keys(line("depot", "operator", SECRET) + line("fleet", "client", CLIENT))


def bench(**more: Any) -> Bench:  # noqa: ANN401  # see Bench
    """Return an api that knows the keys."""
    return Bench(keys=KEYS, **more)


async def put(
    api: Bench,
    body: object,
    id: str = "s1",
    *,
    key: str | None = SECRET,
    scheme: str = "Bearer",
    method: str = "PUT",
) -> Answer:
    """Send a request that sets a substation."""
    named = [] if key is None else [("Authorization", f"{scheme} {key}")]
    data = body if isinstance(body, bytes) else json.dumps(body)
    return await api.ask(method, f"/substations/{id}", data, [JSON, *named])


async def test_patch_leaves_fields_that_are_not_given_unchanged() -> None:
    """Capping a drained substation does not make it available again, and vice versa."""
    async with bench().serve() as api:
        for body, state, limit in [
            ({"state": "draining"}, "draining", None),
            ({"limit": 3}, "draining", 3),
            ({"state": "available"}, "available", 3),
            ({"limit": None}, "available", None),
        ]:
            answer = await put(api, body, method="PATCH")
            assert answer.body == {"id": "s1", "state": state, "limit": limit}
        answer = await put(api, {}, method="PATCH")
        assert "must have state, limit or both" in problem(answer, 422)["detail"]
        problem(await put(api, {"limit": 0}, method="PATCH"), 422)
        problem(await put(api, {"limit": 1}, method="PATCH", key=None), 401)
        problem(await put(api, {"limit": 1}, method="PATCH", key=CLIENT), 403)
        assert len(api.controls.to(CONTROLS)) == 4


@pytest.mark.parametrize(
    ("body", "state", "limit"),
    [
        ({"state": "draining"}, "draining", None),
        ({"state": "available", "limit": 1}, "available", 1),
        ({"state": "draining", "limit": MAX_LIMIT}, "draining", MAX_LIMIT),
        ({"limit": None}, "available", None),
        ({}, "available", None),
    ],
)
async def test_put_writes_the_controls_to_the_stream(
    body: dict[str, object], state: str, limit: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """200 with what holds now; fields left out have their defaults. The log names the key once."""
    caplog.set_level(logging.INFO)
    async with bench().serve() as api:
        await put(api, {"state": "draining", "limit": 9}, "s2")
        caplog.clear()
        answer = await put(api, body)
        assert (answer.status, answer.body) == (200, {"id": "s1", "state": state, "limit": limit})
        (_, sent) = api.controls.to(CONTROLS)
        assert sent.key == CONTROLS
        assert set(controls.decode(sent.body).controls) == {
            Control("s1", Availability(state), limit, 1),
            Control("s2", Availability.DRAINING, 9, 1),
        }
    said = [each.getMessage() for each in caplog.records if each.name == "api.routes.substations"]
    assert said == [f'operator "depot" set s1 {state}, limit {limit or "none"}']
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"state": "full"}, "state", 'got "full"'),
        ({"state": None}, "state", "got null"),
        ({"limit": 0}, "limit", "got 0"),
        ({"limit": -1}, "limit", "got -1"),
        ({"limit": 1.5}, "limit", "got 1.5"),
        ({"limit": "3"}, "limit", 'got "3"'),
        ({"limit": True}, "limit", "got true"),
        ({"limit": MAX_LIMIT + 1}, "limit", str(MAX_LIMIT)),
        ({"status": "draining"}, "status", "no such field"),
        ([], "body", "must be a JSON object"),
        (b"", "body", "missing"),
    ],
)
async def test_api_names_the_field_that_is_invalid(body: object, field: str, words: str) -> None:
    """422 as for every other request, and nothing is set."""
    async with bench().serve() as api:
        answer = await put(api, body)
        assert words in problem(answer, 422)["detail"]
        assert [each["field"] for each in answer.body["errors"]] == [field]
        assert api.controls.sent == []


async def test_control_change_that_is_not_json_is_400() -> None:
    """400 for the body as a whole, and nothing is set."""
    async with bench().serve() as api:
        answer = await put(api, b"{")
        assert "not JSON" in problem(answer, 400)["detail"]
        assert [each["field"] for each in answer.body["errors"]] == ["body"]
        assert api.controls.sent == []


async def test_invalid_substation_id_is_rejected() -> None:
    """422 naming the id, whether or not the dispatcher has written a snapshot."""
    async with bench().serve() as api:
        assert "id" in problem(await put(api, {}, "a.b"), 422)["detail"]


async def test_put_on_an_unknown_substation_is_404() -> None:
    """404 once the dispatcher has written a snapshot; before that, any valid name is accepted."""
    async with bench().serve() as api:
        assert (await put(api, {}, "s9")).status == 200
        api.hear(Event(SUBSTATIONS, AT, detail={"substations": [{"substation": "s1"}]}))
        assert "no substation s9" in problem(await put(api, {}, "s9"), 404)["detail"]
        assert (await put(api, {}, "s1")).status == 200


@pytest.mark.parametrize(
    ("key", "scheme", "words"),
    [
        (None, "", "Authorization: Bearer"),
        ("", "Bearer", "Authorization: Bearer"),
        (SECRET, "Basic", "Authorization: Bearer"),
        ("another", "Bearer", "not one that this api knows"),
        (SECRET[:-1], "Bearer", "not one that this api knows"),
        (sha256(SECRET.encode()).hexdigest(), "Bearer", "not one that this api knows"),
    ],
)
async def test_control_change_without_a_known_key_is_401(
    key: str | None, scheme: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """401 that says how to send a key, before the body is checked; the key is not logged."""
    caplog.set_level(logging.DEBUG)
    async with bench().serve() as api:
        answer = await put(api, {"limit": 0}, key=key, scheme=scheme)
        assert words in problem(answer, 401)["detail"]
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert api.controls.sent == []
        if key:
            assert key not in caplog.text + str(answer.body)


async def test_control_change_without_configured_keys_says_how_to_make_one() -> None:
    """401 that names the variable, whatever key is sent."""
    async with Bench().serve() as api:
        for key in (None, SECRET):
            answer = await put(api, {}, key=key)
            assert "no key is configured" in problem(answer, 401)["detail"]
            assert "API_KEYS_FILE" in answer.body["detail"]
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_client_key_cannot_change_a_substation() -> None:
    """403 naming whose key it is, and the scope that it lacks."""
    async with bench().serve() as api:
        detail = problem(await put(api, {}, key=CLIENT), 403)["detail"]
        assert '"fleet"' in detail
        assert "operator" in detail
        assert api.controls.sent == []


async def test_charging_and_reading_need_no_key() -> None:
    """Requesting and viewing charges needs no key."""
    async with bench().serve() as api:
        assert (await api.post()).status == 202
        assert (await api.get("/substations")).status == 200


async def test_api_rejects_a_body_that_is_not_declared_as_json() -> None:
    """415, as for every other body."""
    async with bench().serve() as api:
        named = [("Authorization", f"Bearer {SECRET}"), ("Content-Type", "text/plain")]
        problem(await api.ask("PUT", "/substations/s1", b"{}", named), 415)


def away(api: Bench) -> None:
    """Make RabbitMQ unreachable."""
    api.controls.up.clear()


def behind(api: Bench) -> None:
    """Have the api behind the end of the controls' stream."""
    api.controls.log.caught_up.clear()


def refused(api: Bench) -> None:
    """Have RabbitMQ refuse the message."""
    api.controls.automatic[CONTROLS] = Outcome.REFUSED


def silent(api: Bench) -> None:
    """Have RabbitMQ not answer."""
    del api.controls.automatic[CONTROLS]


@pytest.mark.parametrize(
    ("trouble", "words"),
    [(away, "away"), (behind, "still being read"), (refused, "refused"), (silent, "within 0.05 s")],
)
async def test_control_change_is_503_if_rabbitmq_does_not_confirm(
    trouble: Callable[[Bench], None], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """503 with Retry-After and the reason; no change is logged. The rest of the api works."""
    caplog.set_level(logging.INFO)
    async with bench(confirm_timeout=0.05).serve() as api:
        trouble(api)
        answer = await put(api, {"state": "draining"})
        assert words in problem(answer, 503)["detail"]
        assert answer.headers["Retry-After"]
        assert "operator" not in caplog.text
        assert (await api.get("/readyz")).status == 200
        assert (await api.post()).status == 202


async def test_document_declares_the_keys_that_are_required() -> None:
    """The bearer scheme is declared and required only there, and every error is described.

    Where the api needs keys, all paths require it except health checks and metrics.
    """
    async with bench(closed=True).serve() as api:
        key = [("Authorization", f"Bearer {CLIENT}")]
        paths = (await api.ask("GET", "/openapi.json", None, key)).body["paths"]
        required: list[dict[str, list[str]]] = [{"key": []}]
        for path, methods in paths.items():
            expected = [] if path in OPEN_PATHS else required
            assert [each["security"] for each in methods.values()] == [expected] * len(methods)
    async with bench().serve() as api:
        document = (await api.get("/openapi.json")).body
    schemes = document["components"]["securitySchemes"]
    assert [(each["type"], each["scheme"]) for each in schemes.values()] == [("http", "bearer")]
    secured = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation["security"] == [{"key": []}]
    }
    assert secured == {
        "PUT /substations/{id}",
        "PATCH /substations/{id}",
        "PUT /substations/{id}/limits",
        "DELETE /substations/{id}/limits",
        "POST /parked/replay",
        "POST /parked/discard",
    }
    answers = document["paths"]["/substations/{id}"]["put"]["responses"]
    assert answers.keys() == {
        *("200", "400", "401", "403", "404", "413", "415", "422", "429", "503")
    }
    for status, answer in answers.items():
        assert list(answer["content"]) == [PROBLEM if status != "200" else "application/json"]
