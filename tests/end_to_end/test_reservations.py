"""Starts that are promised: the answer, what is kept free for them, and after a restart."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.broker import VirtualHost
from tests.end_to_end.test_power_limits import started_at, text
from tests.end_to_end.test_routing import job, post, wait_for
from tests.system import System

pytestmark = pytest.mark.e2e

# an hour of charging a second, at one connector
ENVIRONMENT = {"CHARGE_SPEED": "3600", "GRACE_SECONDS": "0", "CONNECTORS": "1"}
KWH_A_SECOND = 7.4


def reserve(system: System, start: float, seconds: float, **fields: object) -> dict[str, Any]:
    """Ask for a start of a session that takes so long; return the answer."""
    body = {
        "earliest_start": text(start),
        "reserve": True,
        "requested_energy_kwh": seconds * KWH_A_SECOND,
        **fields,
    }
    status, answer = system.post(body)
    assert status == 202, answer
    return dict(answer)


def promised(answer: dict[str, Any]) -> tuple[bool, str, float]:
    """Return what a job was told: whether it has a start, where, and when in Unix seconds."""
    found = answer["reservation"]
    start = datetime.fromisoformat(found["start"]).timestamp()
    return found["granted"], found["substation"], round(start, 3)


def test_promised_start_is_kept_over_a_restart_of_the_dispatcher(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """A long session is not begun meanwhile, a short one is; another such start is refused."""
    with System(vhost, tmp_path, substations=1, environment=ENVIRONMENT) as system:
        start = float(round(time.time()) + 20)
        first = reserve(system, start, seconds=5)
        assert (first["status"], promised(first)) == ("queued", (True, "substation1", start))
        second = reserve(system, start, seconds=5)
        wait_for(system, [second["id"]], "expired")
        refused = job(system, second["id"])
        assert promised(refused) == (False, "substation1", start + 5)
        assert "nearest" in refused["reason"]
        later = reserve(system, start, seconds=5, departure_time=text(start + 100))
        assert promised(later) == (True, "substation1", start + 5)
        (long,) = post(system, 1, requested_energy_kwh=100 * KWH_A_SECOND)
        (short,) = post(system, 1, requested_energy_kwh=KWH_A_SECOND)
        wait_for(system, [short], "completed")
        assert job(system, long)["status"] == "queued"
        system.kill("dispatcher")
        system.start("dispatcher")
        system.wait_ready("dispatcher")
        (between,) = post(system, 1, requested_energy_kwh=KWH_A_SECOND)
        wait_for(system, [between], "completed")
        assert (job(system, long)["status"], job(system, first["id"])["status"]) == ("queued",) * 2
        assert time.time() < start, "the test took too long to show anything"
        wait_for(system, [first["id"]], "completed")
        wait_for(system, [later["id"]], "completed")
        assert start <= started_at(system, first["id"]) < start + 1
        assert start + 5 <= started_at(system, later["id"]) < start + 6.5
        assert promised(job(system, first["id"])) == (True, "substation1", start)
        wait_for(system, [long], "charging")


def test_job_does_not_begin_before_its_earliest_start(vhost: VirtualHost, tmp_path: Path) -> None:
    """Nothing is promised to it, and nothing kept free; then it is next by its priority."""
    with System(vhost, tmp_path, substations=1, environment=ENVIRONMENT) as system:
        start = time.time() + 5
        (later,) = post(
            system, 1, requested_energy_kwh=KWH_A_SECOND, earliest_start=text(start), priority=9
        )
        (now,) = post(system, 1, requested_energy_kwh=KWH_A_SECOND)
        wait_for(system, [now], "completed")
        assert job(system, later)["status"] == "queued"
        wait_for(system, [later], "completed")
        assert started_at(system, later) >= start
        assert job(system, later)["reservation"] is None
