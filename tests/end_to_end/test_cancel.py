"""A client cancels its job, wherever that is: it ends once, as the answer says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.broker import VirtualHost
from tests.end_to_end.test_routing import LONG, job, loads, post, sessions, wait_for
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e

# few connectors, so that jobs wait everywhere
NARROW = {**LONG, "CONNECTORS": "1"}


def cancel(system: System, id: str) -> tuple[int, dict[str, object]]:
    """Cancel a job by the api."""
    return system.call("api", "DELETE", f"/charge/{id}")


def test_jobs_are_cancelled_while_they_wait_and_while_they_charge(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Each ends cancelled, once; the connectors are free for others, and loads are right."""
    with System(vhost, tmp_path, substations=2, environment=NARROW) as system:
        charging = post(system, 2)
        wait_for(system, charging, "charging")
        waiting = post(system, 6)
        for each in [*waiting[:3], charging[0]]:
            status, found = cancel(system, each)
            assert (status, found["status"]) == (200, "cancelled"), found
        wait_for(system, waiting[3:4], "charging")
        assert cancel(system, waiting[0])[0] == 200, "cancelled before"
        assert job(system, charging[1])["status"] == "charging"
        system.until(lambda: sessions(system) == {"substation1": 1, "substation2": 1}, "2 charge")
        assert loads(system) == sessions(system)
        assert job(system, charging[0])["status"] == "cancelled"


def test_cancelled_job_ends_though_its_substation_was_away(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """The answer says that it will; the substation knows of it when it has the job again."""
    calm = {**NARROW, "RESCUE_AFTER_SECONDS": "60"}
    with System(vhost, tmp_path, substations=1, environment=calm) as system:
        [gone] = post(system, 1)
        wait_for(system, [gone], "charging")
        system.kill("substation1")
        assert cancel(system, gone)[0] == 202
        system.start("substation1")
        system.until(lambda: job(system, gone)["status"] == "cancelled", "it is cancelled")


def test_ended_job_cannot_be_cancelled(vhost: VirtualHost, tmp_path: Path) -> None:
    """The answer says how it ended; of an unknown job, that there is none."""
    with System(vhost, tmp_path, substations=1, environment=QUICK) as system:
        [gone] = post(system, 1)
        wait_for(system, [gone], "completed")
        status, problem = cancel(system, gone)
        assert status == 409
        assert "completed" in str(problem["detail"])
        assert cancel(system, "unknown")[0] == 404
