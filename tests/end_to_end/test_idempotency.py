from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.broker import VirtualHost
from tests.system import OTHER_API, QUICK, System

pytestmark = pytest.mark.e2e

BUS = {"vehicle_id": "bus-7"}


def send(system: System, api: str, key: str) -> tuple[int, Any]:
    """Send one api a request that names itself."""
    return system.call(api, "POST", "/charge", BUS, {"Idempotency-Key": key})


def test_a_retry_anywhere_is_the_same_job(vhost: VirtualHost, tmp_path: Path) -> None:
    """Requests with one key are one job and one session: at another api, after a kill, at once."""
    with System(vhost, tmp_path, environment=QUICK) as system:
        system.start(OTHER_API)
        system.wait_ready(OTHER_API)
        status, first = send(system, "api", "a")
        assert status == 202
        system.wait_completed({first["id"]})
        assert send(system, OTHER_API, "a")[1]["id"] == first["id"]
        for name in ("api", OTHER_API):
            system.kill(name)
            system.start(name)
            system.wait_ready(name)
            status, again = send(system, name, "a")
            assert (status, again["id"], again["status"]) == (202, first["id"], "completed")
        with ThreadPoolExecutor(8) as pool:
            racing = list(
                pool.map(lambda n: send(system, ("api", OTHER_API)[n % 2], "b"), range(16))
            )
        assert {status for status, _ in racing} == {202}
        [second] = {answer["id"] for _, answer in racing}
        jobs = system.wait_completed({first["id"], second})
        assert [job["duplicates"] for job in jobs] == [0, 0]
        assert sessions(system) == 2


def test_what_no_memory_has_room_for_is_the_same_job(vhost: VirtualHost, tmp_path: Path) -> None:
    """After many jobs, and a restart of api and dispatcher, its key and its end are still known."""
    with System(vhost, tmp_path, environment=QUICK | {"MAX_JOBS": "2"}) as system:
        _, first = send(system, "api", "a")
        for number in range(5):
            assert system.call("api", "POST", "/charge", {"vehicle_id": f"car-{number}"})[0] == 202
        system.until(lambda: sessions(system) == 6, "all are charged")
        for name in ("api", "dispatcher"):
            system.kill(name)
            system.start(name)
            system.wait_ready(name)
        status, again = send(system, "api", "a")
        assert (status, again["id"], again["status"]) == (202, first["id"], "completed")
        assert sessions(system) == 6


def sessions(system: System) -> float:
    """Count the sessions that all substations have completed."""
    pages = [str(system.get(name, "/metrics")[1]) for name in system.substations]
    return sum(
        float(line.split()[1])
        for page in pages
        for line in page.splitlines()
        if line.startswith("ev_charging_sessions_completed_total ")
    )
