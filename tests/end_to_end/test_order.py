"""The order of the waiting jobs in a running system: the most that can be done by their departures.

An hour of charging takes a second here, so a job takes as many seconds as it asks for kWh at 1 kW.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.broker import VirtualHost
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e

ONE = {**QUICK, "CONNECTORS": "1", "CHARGE_SPEED": "3600", "SEND_AHEAD": "0"}


def asked(name: str, seconds: float, departs: float | None = None) -> dict[str, Any]:
    """Return a request of a vehicle that departs so many seconds from now."""
    fields = {"vehicle_id": name, "requested_energy_kwh": seconds, "requested_power_kw": 1}
    if departs is not None:
        fields["departure_time"] = (datetime.now(UTC) + timedelta(seconds=departs)).isoformat()
    return fields


def accepted(system: System, *requests: dict[str, Any]) -> set[str]:
    """Return the jobs of requests that are accepted."""
    status, answer = system.post(list(requests), path="/charges")
    assert status == 202, answer
    return {job["id"] for job in answer["jobs"]}


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_dispatcher_serves_the_most_that_can_leave_in_time(
    restarted: bool,  # noqa: FBT001
    vhost: VirtualHost,
    tmp_path: Path,
) -> None:
    """A long one that must begin soonest would cost three others; it expires, and they are met.

    So it is after a restart of the dispatcher, which has the same requests then.
    """
    with System(vhost, tmp_path, substations=1, environment=ONE) as system:
        jobs = accepted(system, asked("first", 6))
        waits = f"/charge/{next(iter(jobs))}?wait=20&until=charging"
        assert system.get("api", waits)[1]["status"] == "charging"
        late = asked("late", 60, 30)
        three = [asked("c", 4, 24), asked("b", 4, 20), asked("a", 4, 18)]
        jobs |= accepted(system, late, asked("long", 10, 18), *three, asked("stays", 1))
        if restarted:
            system.kill("dispatcher")
            system.start("dispatcher")
        found: dict[str, dict[str, Any]] = {}

        def ended() -> bool:
            charges = [each for each in system.all_charges() if each["id"] in jobs]
            found.update({each["request"]["vehicle_id"]: each for each in charges})
            return all(each["status"] in ("completed", "expired") for each in charges)

        system.until(ended, "every job has ended", 60)
        begun = [name for name, each in found.items() if "charging" in each["times"]]
        begun.sort(key=lambda name: str(found[name]["times"]["charging"]))
        assert begun[:5] == ["first", "a", "b", "c", "stays"]
        assert found["long"]["status"] == "expired"
        for name in "abc":
            each = found[name]
            assert each["times"]["completed"] <= each["request"]["departure_time"]
