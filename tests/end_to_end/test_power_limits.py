"""Power limits over time: what an operator sets, what the dispatcher starts, and after restarts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.broker import VirtualHost
from tests.end_to_end.test_routing import job, post, wait_for
from tests.operators import OPERATOR, operated
from tests.system import STANDBY, System

pytestmark = pytest.mark.e2e

# an hour of charging a second
SPEED = {"CHARGE_SPEED": "3600", "GRACE_SECONDS": "0"}
LIMITS = "/substations/substation1/limits"
HOUR = 3600.0


def text(at: float) -> str:
    """Return Unix seconds as the api wants a time."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def limit(
    system: System, *blocks: tuple[float, float, float], fallback_kw: float | None = None
) -> None:
    """Limit the power of the first substation, once RabbitMQ has that."""
    body = {
        "source": "dso",
        "fallback_kw": fallback_kw,
        "blocks": [
            {"start": text(start), "end": text(end), "limit_kw": kw} for start, end, kw in blocks
        ],
    }
    system.until(lambda: system.call("api", "PUT", LIMITS, body, OPERATOR)[0] == 200, "it is set")


def charging(system: System, ids: Iterable[str]) -> set[str]:
    """Return which of these jobs are charging."""
    wanted = set(ids)
    found = system.all_charges()
    return {each["id"] for each in found if each["id"] in wanted and each["status"] == "charging"}


def row(system: System) -> dict[str, Any]:
    """Return the first substation as the api shows it; nothing before its first snapshot."""
    status, found = system.get("api", "/substations")
    assert status == 200, found
    return dict(*found["substations"][:1])


def started_at(system: System, id: str) -> float:
    """Return when a job began to charge, in Unix seconds."""
    return datetime.fromisoformat(job(system, id)["times"]["charging"]).timestamp()


def test_limit_holds_until_its_end_and_over_a_restart_of_the_dispatcher(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Two sessions of 7.4 kW fit below 20 kW, four below the fallback of 30 kW."""
    with System(
        vhost, tmp_path, substations=1, environment={**SPEED, **operated(tmp_path)}
    ) as system:
        now = time.time()
        limit(system, (now - 60, now + HOUR, 20), fallback_kw=30)
        system.until(lambda: row(system).get("power_limit_kw") == 20, "the dispatcher has it")
        ids = post(system, 5, requested_energy_kwh=2000)  # 270 s
        system.until(lambda: len(charging(system, ids)) == 2, "two charge")
        first = charging(system, ids)
        waiting = set(ids) - first
        one = next(iter(waiting))
        system.until(
            lambda: "limited to 20 kW until" in str(job(system, one)["reason"]), "it says why"
        )
        assert "by dso" in job(system, one)["reason"]
        system.kill("dispatcher")
        system.start("dispatcher")
        system.wait_ready("dispatcher")
        assert charging(system, ids) == first
        assert row(system)["power_limit_source"] == "dso"
        end = time.time() + 3
        limit(system, (now - 60, end, 20), fallback_kw=30)
        system.until(lambda: len(charging(system, ids)) == 4, "two more charge")
        for each in charging(system, ids) - first:
            assert end <= started_at(system, each) < end + 2
        system.until(lambda: row(system)["power_limit_kw"] == 30, "the fallback is shown")
        assert len(charging(system, ids)) == 4


def test_no_session_is_started_that_would_cross_a_lower_limit_to_come(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """A short one is, meanwhile; also by the dispatcher that takes over. Without limits all are."""
    with System(
        vhost, tmp_path, substations=1, environment={**SPEED, **operated(tmp_path)}
    ) as system:
        system.start(STANDBY)
        system.wait_ready(STANDBY)
        dip = time.time() + 200
        limit(system, (dip, dip + HOUR, 10))
        (first,) = post(system, 1, requested_energy_kwh=2220)  # 300 s
        wait_for(system, [first], "charging")
        (second,) = post(system, 1, requested_energy_kwh=2220)
        (short,) = post(system, 1, requested_energy_kwh=22.2)  # 3 s
        wait_for(system, [short], "completed")
        system.until(
            lambda: "limited to 10 kW from" in str(job(system, second)["reason"]), "it says why"
        )
        assert job(system, second)["status"] == "queued"
        system.kill("dispatcher")
        (late,) = post(system, 1, requested_energy_kwh=22.2)
        wait_for(system, [late], "completed")
        assert job(system, second)["status"] == "queued"
        assert time.time() < dip, "the test took too long to show anything"
        assert system.call("api", "DELETE", LIMITS, None, OPERATOR)[0] == 200
        wait_for(system, [second], "charging")
        assert system.get("api", LIMITS)[1]["blocks"] == []
