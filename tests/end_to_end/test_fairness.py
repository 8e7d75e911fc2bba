"""Tenants share what there is, nobody waits longer than wanted, and high priorities have room."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.broker import VirtualHost
from tests.end_to_end.test_routing import LONG, job, post, wait_for
from tests.system import System

pytestmark = pytest.mark.e2e

ONE = {
    "CONNECTORS": "1",
    "CHARGE_SECONDS_MIN": "0.2",
    "CHARGE_SECONDS_MAX": "0.2",
    "PREFETCH": "20",
}


def restart(system: System) -> None:
    """Kill the dispatcher, and start another."""
    system.kill("dispatcher")
    system.start("dispatcher")
    system.wait_ready("dispatcher")


@pytest.mark.parametrize("restarts", [False, True])
def test_a_flood_does_not_starve_another_tenant(
    vhost: VirtualHost,
    tmp_path: Path,
    restarts: bool,  # noqa: FBT001
) -> None:
    """Though it fills the prefetch, the requests behind it get in, and are served before it."""
    with System(vhost, tmp_path, substations=1, environment=ONE) as system:
        flood = post(system, 200, tenant="flood")
        small = post(system, 4, tenant="small")
        if restarts:
            restart(system)
        wait_for(system, small, "completed")
        ended = {each["id"] for each in system.all_charges() if each["status"] == "completed"}
        assert len(ended.intersection(flood)) < len(flood) / 2
        assert {job(system, each)["request"]["tenant"] for each in small} == {"small"}
        _, page = system.get("api", "/charges?tenant=small")
        assert {each["id"] for each in page["charges"]} == set(small)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_request_expires_once_it_waited_for_its_longest(
    vhost: VirtualHost,
    tmp_path: Path,
    restarts: bool,  # noqa: FBT001
) -> None:
    """Counted from the request, also across a restart; its record says why."""
    one = {**LONG, "CONNECTORS": "1"}
    with System(vhost, tmp_path, substations=1, environment=one) as system:
        wait_for(system, post(system, 1), "charging")
        [limited] = post(system, 1, max_wait_seconds=5)
        [stays] = post(system, 1)
        if restarts:
            restart(system)
        [found] = wait_for(system, [limited], "expired")
        assert found["reason"] == "it waited longer than its max_wait_seconds (5)"
        times = {name: datetime.fromisoformat(at) for name, at in found["times"].items()}
        waited = (times["expired"] - times["queued"]).total_seconds()
        assert list(times) == ["queued", "expired"]
        assert waited >= 5 if restarts else 5 <= waited < 7
        assert job(system, stays)["status"] == "queued"


def test_a_share_of_the_connectors_is_kept_for_high_priorities(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Others wait, and are told why; an urgent request is charged at once."""
    four = {**LONG, "CONNECTORS": "4", "RESERVED_SHARE": "0.25"}
    with System(vhost, tmp_path, substations=1, environment=four) as system:
        wait_for(system, post(system, 3), "charging")
        [waits] = post(system, 1, priority=6)
        system.until(lambda: "kept" in str(job(system, waits)["reason"]), "it is told why")
        time.sleep(1)
        assert job(system, waits)["status"] == "queued"
        wait_for(system, post(system, 1, priority=7), "charging")
        decision = system.all_charges()[-1]
        assert job(system, decision["id"])["decision"]["reason"].endswith(
            "a connector that was kept for priority 7 and above"
        )
