"""Whether a vehicle will be ready when it leaves, and with how much energy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from api.readiness import Readiness, readiness
from grid.events import SUBSTATIONS, Event, State
from tests.api.harness import AT, Bench, assigned
from tests.api.test_wait import row

ENERGY = {"departure_time": AT + 3600, "requested_energy_kwh": 11, "requested_power_kw": 11}


@pytest.mark.parametrize(
    ("begins", "speed", "mean", "expected"),
    [
        (0, 1.0, None, Readiness(will_be_ready=True, energy_kwh=11)),
        (1, 1.0, None, Readiness(will_be_ready=False, energy_kwh=10.997)),
        (1800, 1.0, None, Readiness(will_be_ready=False, energy_kwh=5.5)),
        (1800, 2.0, None, Readiness(will_be_ready=True, energy_kwh=11)),
        (7200, 1.0, None, Readiness(will_be_ready=False, energy_kwh=0)),
        (3590, None, 5.0, Readiness(will_be_ready=True, energy_kwh=11)),
        (3590, None, 20.0, Readiness(will_be_ready=False, energy_kwh=5.5)),
        (0, None, None, None),
    ],
)
def test_readiness_is_what_a_session_delivers_by_the_departure(
    begins: float, speed: float | None, mean: float | None, expected: Readiness | None
) -> None:
    """As long as its energy takes at the speed of charging; without one, as long as others take."""
    assert readiness(ENERGY, AT + begins, speed, mean) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"departure_time": None},
        {"departure_time": "soon"},
        {"requested_energy_kwh": None},
        {"requested_energy_kwh": 1e300},
        {"requested_energy_kwh": True},
        {"requested_energy_kwh": -1},
    ],
)
def test_readiness_is_unknown_where_the_request_does_not_say_what_it_needs(
    fields: dict[str, Any],
) -> None:
    """Anybody may have written to the log: a wrong field counts as missing."""
    assert readiness({**ENERGY, **fields}, AT, 1.0, None) is None


def test_readiness_without_a_power_takes_the_usual_one() -> None:
    """As the substations do."""
    fields = {"departure_time": AT + 3600, "requested_energy_kwh": 7.4, "requested_power_kw": 0}
    assert readiness(fields, AT, 1.0, None) == Readiness(will_be_ready=True, energy_kwh=7.4)


def leaving(seconds: float, kwh: float) -> dict[str, Any]:
    """Return a request of a vehicle that leaves so many seconds from now."""
    at = datetime.fromtimestamp(AT + seconds, UTC).isoformat()
    return {"departure_time": at, "requested_energy_kwh": kwh, "requested_power_kw": 10}


async def test_client_is_told_at_once_that_a_vehicle_will_not_be_ready() -> None:
    """Also where the answer does not wait for a decision: the job is charged all the same."""
    async with Bench(charge_speed=1.0).serve() as bench:
        for more in ({}, {"Prefer": "respond-async"}):
            answer = await bench.post(leaving(1800, 10), **more)
            assert answer.status == 202
            assert answer.body["will_be_ready"] is False
            assert answer.body["expected_energy_kwh"] == 5
        [listed] = (await bench.post([leaving(3600, 10)], "/charges")).body["jobs"]
        assert listed["will_be_ready"] is None  # nobody can say yet when it begins
        plain = (await bench.post({})).body
        assert (plain["will_be_ready"], plain["expected_energy_kwh"]) == (None, None)


@pytest.mark.parametrize(
    ("until", "ready", "energy"),
    [(None, False, 0), (AT + 7200, False, 0), (AT + 1800, False, 5), (AT + 10, None, None)],
)
async def test_vehicle_is_not_ready_by_a_power_limit_that_holds_too_long(
    until: float | None,
    ready: bool | None,  # noqa: FBT001
    energy: float | None,
) -> None:
    """A limit below what it draws keeps it from beginning; after that, it may be in time."""
    ends = None if until is None else datetime.fromtimestamp(until, UTC).isoformat()
    limited = row("s1", "no power", rated_power_kw=50.0, power_limit_kw=5.0, power_limit_until=ends)
    async with Bench(charge_speed=1.0).serve() as bench:
        bench.hear(Event(SUBSTATIONS, AT, detail={"dispatcher": "d1", "substations": [limited]}))
        shown = (await bench.post(leaving(3600, 9.9), Prefer="respond-async")).body
        assert shown["will_be_ready"] is ready
        assert shown["expected_energy_kwh"] == energy


async def test_job_that_charges_says_whether_it_will_be_ready() -> None:
    """By when its session began; once it has ended, what it got is its energy."""
    async with Bench(charge_speed=1.0).serve() as bench:
        answer = await bench.post(leaving(3600, 10), Prefer="respond-async")
        job = answer.body["id"]
        bench.hear(assigned(job))
        bench.at += 1800
        shown = (await bench.get(f"/charge/{job}")).body
        assert (shown["will_be_ready"], shown["expected_energy_kwh"]) == (False, 5)
        bench.hear(Event(State.CHARGING, AT, job, "s1"))
        shown = (await bench.get(f"/charge/{job}")).body
        assert (shown["will_be_ready"], shown["expected_energy_kwh"]) == (True, 10)
        bench.hear(Event(State.COMPLETED, AT + 1800, job, "s1", energy_kwh=10.0))
        shown = (await bench.get(f"/charge/{job}")).body
        assert (shown["will_be_ready"], shown["expected_energy_kwh"]) == (None, None)
        assert shown["energy_kwh"] == 10
