"""Whose a request is: by its key, or by what it says where no key is needed."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from api.auth import parse_keys
from grid import messages
from tests.api.harness import REQUESTS, Bench


def secret(name: str) -> str:
    """Return a key, by the name of its owner."""
    return f"the key of {name}"


KEYS = "\n".join(
    f"{name} {scope} {sha256(secret(name).encode()).hexdigest()}"
    for name, scope in [("fleet", "client"), ("depot", "operator")]
)


def bench() -> Bench:
    """Return an api that needs a key."""
    return Bench(keys=parse_keys(KEYS), closed=True)


@pytest.mark.parametrize(
    ("key", "body", "tenant"),
    [
        ("fleet", {}, "fleet"),
        ("fleet", {"tenant": "fleet"}, "fleet"),
        ("depot", {}, "depot"),
        ("depot", {"tenant": "fleet"}, "fleet"),
    ],
)
async def test_request_with_a_key_is_of_its_owner(
    key: str, body: dict[str, Any], tenant: str
) -> None:
    """An operator's key may name another tenant, as a gateway or a load test does."""
    async with bench().serve() as api:
        answer = await api.post(body, Authorization=f"Bearer {secret(key)}")
        assert (answer.status, answer.body["request"]["tenant"]) == (202, tenant)
        (sent,) = api.publisher.to(REQUESTS)
        assert messages.decode(sent.body).tenant == tenant


async def test_request_of_a_client_for_another_tenant_is_rejected() -> None:
    """Also in a list, of which nothing is published; the error names the entry."""
    async with bench().serve() as api:
        key = f"Bearer {secret('fleet')}"
        answer = await api.post({"tenant": "public"}, Authorization=key)
        assert answer.status == 422
        assert answer.body["errors"] == [
            {
                "field": "tenant",
                "problem": "must be the name of the key, 'fleet', or left out, got 'public'",
            }
        ]
        bodies = [{}, {"tenant": "public"}]
        answer = await api.post(bodies, "/charges", Authorization=key)
        assert (answer.status, answer.body["errors"][0]["field"]) == (422, "1.tenant")
        assert api.publisher.to(REQUESTS) == []


@pytest.mark.parametrize("body", [{}, {"tenant": "public"}])
async def test_request_without_a_key_is_of_the_tenant_it_names(body: dict[str, Any]) -> None:
    """Where no key is needed, a client is believed; without a tenant, it is of none."""
    async with Bench().serve() as api:
        answer = await api.post(body)
        assert answer.body["request"].get("tenant") == body.get("tenant")


async def test_retry_of_a_request_of_an_earlier_version_is_the_same_job() -> None:
    """Its record has no tenant, since no api of that version wrote one."""
    async with bench().serve() as api:
        headers = {"Authorization": f"Bearer {secret('fleet')}", "Idempotency_Key": "a"}
        first = await api.post({}, **headers)
        job = api.projection.get(first.body["id"])
        assert job is not None
        assert job.queued is not None
        before = {name: each for name, each in job.request.items() if name != "tenant"}
        job.queued = replace(job.queued, detail=before)
        assert (await api.post({}, **headers)).body["id"] == first.body["id"]
