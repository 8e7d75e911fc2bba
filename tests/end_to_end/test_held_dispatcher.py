"""A dispatcher that was stopped and let go: what it still believes to have is another's by then."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from grid import topology
from tests.broker import VirtualHost
from tests.system import QUICK, STANDBY, System

pytestmark = pytest.mark.e2e

REQUESTS = 60


def _active_connections(vhost: VirtualHost) -> list[str]:
    """Return the names of the connections to which RabbitMQ delivers the requests.

    The management API learns of a consumer before it learns of the consumer's channel: until then
    it says `[]` for the channel's details, or leaves them out.
    """
    consumers: list[dict[str, Any]] = vhost.broker.request(
        "GET", f"/api/consumers/{quote(vhost.name)}"
    )
    return [
        each["channel_details"]["connection_name"]
        for each in consumers
        if each["queue"]["name"] == topology.REQUESTS
        and each["activity_status"] != "waiting"
        and each.get("channel_details")
    ]


def _seen_active(system: System, vhost: VirtualHost) -> str:
    """Return the name of the active dispatcher's connection, once the management API knows it."""
    found: list[str] = []

    def known() -> bool:
        found[:] = _active_connections(vhost)
        return len(found) == 1

    system.until(known, "RabbitMQ tells who consumes the requests")
    return found[0]


def _accepted(system: System, count: int) -> set[str]:
    """Return the jobs of so many requests that were answered 202."""
    answers = [system.post(path="/charge", Prefer="respond-async") for _ in range(count)]
    assert {status for status, _ in answers} == {202}
    return {answer["id"] for _, answer in answers}


@pytest.mark.parametrize("held", [1.0, 3.0])
def test_dispatcher_sends_nothing_that_was_given_to_another(
    held: float, vhost: VirtualHost, tmp_path: Path
) -> None:
    """RabbitMQ had delivered requests to it, and gave them to the other one while it was held.

    They lie in the buffers of its socket when it goes on, and its way to the substations is open.
    """
    with System(vhost, tmp_path, environment=QUICK) as system:
        connection = _seen_active(system, vhost)
        system.start(STANDBY)
        system.wait_ready(STANDBY)
        system.wait_completed(_accepted(system, 5))
        system.tell("dispatcher", signal.SIGSTOP)
        jobs = _accepted(system, REQUESTS)
        vhost.broker.request("DELETE", f"/api/connections/{quote(connection)}")
        system.wait_completed(jobs)
        time.sleep(held)
        system.tell("dispatcher", signal.SIGCONT)
        more = _accepted(system, 5)
        time.sleep(2.0)  # for what it might send to be charged
        charges = system.wait_completed(jobs | more)
        assert sum(each["duplicates"] for each in charges) == 0
