"""Replaying and discarding parked jobs over HTTP, with an operator's key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.parked import ParkedJobs
from grid import parking, provenance
from grid.amqp import Declarer
from grid.events import State
from grid.messages import ChargeRequest
from grid.parked.queue import DISCARDED, ParkedQueue
from tests.api.harness import AT, JSON, Answer, Bench, problem
from tests.api.test_substations import CLIENT, SECRET, bench
from tests.broker import VirtualHost
from tests.grid.links import Seen, running
from tests.grid.test_parked_queue import events_read, park, requested


async def post(api: Bench, path: str, body: object, key: str | None = SECRET) -> Answer:
    """Send JSON with a key."""
    named = [] if key is None else [("Authorization", f"Bearer {key}")]
    return await api.ask("POST", path, json.dumps(body), [JSON, *named])


def with_parked(*ids: str, **more: Any) -> Bench:  # noqa: ANN401  # see Bench
    """Return an api with these messages parked; one whose name begins with bad is no request."""
    api = bench(**more)
    for each in ids:
        body = b"{" if each.startswith("bad") else ChargeRequest(each, AT).encode()
        api.parked.parked.append(parking.read(each, body, {}))
    return api


async def test_replay_answers_what_became_of_each_parked_job() -> None:
    """Done, not parked, or refused since it would be parked again at once; others stay."""
    api = with_parked("j1", "bad", "j2", "other")
    async with api.serve():
        answer = await post(api, "/parked/replay", {"ids": ["j2", "bad", "gone", "j1"]})
    assert answer.status == 200
    assert (answer.body["done"], answer.body["missing"]) == (["j1", "j2"], ["gone"])
    [refused] = answer.body["refused"]
    assert refused["id"] == "bad"
    assert "not JSON" in refused["reason"]
    assert api.parked.done == [("j1", "replayed"), ("j2", "replayed")]


async def test_discard_takes_any_message_and_notes_why() -> None:
    """Also one that is no request."""
    api = with_parked("bad", "j1")
    async with api.serve():
        body = {"ids": ["bad"], "reason": "a test"}
        answer = await post(api, "/parked/discard", body)
    assert answer.body == {"done": ["bad"], "missing": [], "refused": []}
    assert api.parked.done == [("bad", "a test")]


@pytest.mark.parametrize("path", ["/parked/replay", "/parked/discard"])
async def test_parked_actions_need_an_operators_key(path: str) -> None:
    """A client's key does not do; nothing is done."""
    api = with_parked("j1")
    async with api.serve():
        problem(await post(api, path, {"ids": ["j1"]}, key=None), 401)
        problem(await post(api, path, {"ids": ["j1"]}, key=CLIENT), 403)
    assert api.parked.done == []


@pytest.mark.parametrize(
    "body", [{}, {"ids": []}, {"ids": ["a b"]}, {"ids": ["j1"] * 1_001}, {"ids": "j1"}]
)
async def test_parked_actions_reject_invalid_lists(body: object) -> None:
    """The field is named; an empty list would mean nothing, or everything."""
    api = with_parked("j1")
    async with api.serve():
        found = problem(await post(api, "/parked/replay", body), 422)
    assert found["errors"][0]["field"].startswith("ids")
    assert api.parked.done == []


async def test_parked_actions_are_503_while_rabbitmq_is_away() -> None:
    """The same request can be sent again."""
    api = with_parked("j1")
    api.parked.is_away = True
    async with api.serve():
        problem(await post(api, "/parked/replay", {"ids": ["j1"]}), 503)


async def test_discard_takes_every_message_of_an_id() -> None:
    """Equal messages that are no request have the same id: none may be left behind."""
    api = with_parked("bad", "j1", "bad")
    async with api.serve():
        answer = await post(api, "/parked/discard", {"ids": ["bad"]})
    assert answer.body == {"done": ["bad"], "missing": [], "refused": []}
    assert [job for job, _ in api.parked.done] == ["bad", "bad"]


@pytest.mark.integration
async def test_api_may_replay_and_discard_at_a_real_broker(vhost: VirtualHost) -> None:
    """With the api's own user: the request is there again, the events are believed."""
    jobs = ParkedJobs(lambda: ParkedQueue([vhost.url("api")], Seen(), lambda: AT, provenance.API))
    async with running(Declarer("test", [vhost.url()], Seen())) as declarer:
        await park(vhost, declarer, "j1", "bad1", "j2")
        assert (await jobs.replay(["j1", "bad1"])).done == ["j1"]
        assert (await jobs.discard(["bad1"], "of no use")).done == ["bad1"]
        assert (await jobs.discard(["j1"], "")).missing == ["j1"]
    assert (await requested(vhost, 1)).ids == ["j1"]
    replayed, discarded = provenance.believed(await events_read(vhost, 2), provenance.API)
    assert (replayed.kind, replayed.job) == (State.QUEUED, "j1")
    assert (discarded.kind, discarded.job) == (State.CANCELLED, "bad1")
    assert discarded.reason.startswith(f"{DISCARDED}: of no use")
