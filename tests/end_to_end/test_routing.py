from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from grid import topology
from grid.amqp import Publisher
from grid.messages import ChargeRequest
from tests.broker import VirtualHost
from tests.end_to_end.test_bad_input import ignore
from tests.operators import operated, put
from tests.ports import free_ports
from tests.system import QUICK, STANDBY, System

pytestmark = pytest.mark.e2e

LONG = {"CHARGE_SECONDS_MIN": "60", "CHARGE_SECONDS_MAX": "60", "GRACE_SECONDS": "0"}
TAKEOVER_SECONDS = 5.0


def post(system: System, count: int, **fields: object) -> list[str]:
    """Send so many requests at once; return their ids."""
    status, answer = system.post([fields] * count, path="/charges")
    assert status == 202, answer
    return [job["id"] for job in answer["jobs"]]


def job(system: System, id: str) -> dict[str, Any]:
    """Return a job as the api shows it."""
    status, found = system.get("api", f"/charge/{id}")
    assert status == 200, found
    return dict(found)


def wait_for(system: System, ids: Iterable[str], status: str) -> list[dict[str, Any]]:
    """Wait until these jobs are in a state, and return them."""
    wanted = set(ids)

    def found() -> list[dict[str, Any]]:
        return [
            each
            for each in system.all_charges()
            if each["id"] in wanted and each["status"] == status
        ]

    system.until(lambda: len(found()) == len(wanted), f"{len(wanted)} jobs are {status}")
    return found()


def shares(jobs: Iterable[dict[str, Any]]) -> Counter[str]:
    """Count the jobs at each substation."""
    return Counter(each["substation"] for each in jobs)


def loads(system: System, dispatcher: str = "dispatcher") -> dict[str, float]:
    """Return the load of each substation in a dispatcher's ledger."""
    _, page = system.get(dispatcher, "/metrics")
    start = "dispatcher_substation_load{"
    rows = [line.rsplit(" ", 1) for line in str(page).splitlines() if line.startswith(start)]
    return {name.split('"')[1]: float(value) for name, value in rows}


def sessions(system: System) -> dict[str, float]:
    """Return the sessions in progress at each substation, as its own page shows them."""
    found = {}
    for name in system.substations:
        _, page = system.get(name, "/metrics")
        [line] = [line for line in str(page).splitlines() if line.startswith("ev_charging_load ")]
        found[name] = float(line.split()[1])
    return found


async def publish(url: str, exchange: str, key: str, ids: Iterable[str]) -> None:
    """Publish jobs past the api."""
    publisher = Publisher("test", [url], ignore)
    task = asyncio.create_task(publisher.run())
    for each in ids:
        body = ChargeRequest(each, time.time()).encode()
        await publisher.confirmed(exchange, key, body, id=each, timeout=10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_standby_takes_over(vhost: VirtualHost, tmp_path: Path) -> None:
    """Within 5 s of a kill -9 the other dispatcher decides, and knows where all jobs are."""
    with System(vhost, tmp_path, environment=LONG) as system:
        system.start(STANDBY)
        system.wait_ready(STANDBY)
        assert shares(wait_for(system, post(system, 9), "charging")) == dict.fromkeys(
            system.substations, 3
        )
        assert "dispatcher_decisions_total" in str(system.get(STANDBY, "/metrics")[1])
        system.kill("dispatcher")
        began = time.monotonic()
        ids = post(system, 9)
        jobs = wait_for(system, ids, "charging")
        assert time.monotonic() - began < TAKEOVER_SECONDS
        assert shares(jobs) == dict.fromkeys(system.substations, 3)
        system.until(lambda: loads(system, STANDBY) == sessions(system), "the ledger is right", 5)
        assert set(sessions(system).values()) == {6.0}


def test_a_new_dispatcher_finds_its_scale(vhost: VirtualHost, tmp_path: Path) -> None:
    """A dispatcher that starts while jobs are in progress and outstanding knows all at once."""
    with System(vhost, tmp_path, substations=2, environment=LONG) as system:
        wait_for(system, post(system, 10), "charging")
        system.kill("dispatcher")
        system.start("dispatcher")
        system.wait_ready("dispatcher")
        assert loads(system) == {"substation1": 5.0, "substation2": 5.0}
        jobs = wait_for(system, post(system, 10), "charging")
        assert shares(jobs) == {"substation1": 5, "substation2": 5}


def test_a_substation_that_restarts_is_known_again(vhost: VirtualHost, tmp_path: Path) -> None:
    """Its counters begin at zero; within a scrape of its return the ledger has its true load."""
    calm = {**LONG, "RESCUE_AFTER_SECONDS": "60", "SLOW_START_SECONDS": "0"}
    with System(vhost, tmp_path, substations=2, environment=calm) as system:
        wait_for(system, post(system, 10), "charging")
        system.end("substation1")  # gracefully: it requeues its jobs
        system.start("substation1")
        system.wait_ready("substation1")
        system.until(lambda: sum(sessions(system).values()) == 10, "all ten charge", 10)
        system.until(lambda: loads(system) == sessions(system), "the ledger is right", 2)
        wait_for(system, post(system, 10), "charging")
        assert set(sessions(system).values()) == {10.0}


def test_the_jobs_of_a_dead_substation_go_to_the_others(vhost: VirtualHost, tmp_path: Path) -> None:
    """What it charged and what waited there is charged at another, each job once."""
    with System(vhost, tmp_path, substations=2, environment=LONG) as system:
        ids = post(system, 10)
        assert shares(wait_for(system, ids, "charging"))["substation1"] == 5
        time.sleep(10)  # after its start, a dispatcher gives consumers so long to come back
        system.kill("substation1")
        system.until(
            lambda: shares(job(system, each) for each in ids) == {"substation2": 10},
            "all are at the other",
            15,
        )
        assert {each["attempt"] for each in system.all_charges()} == {1, 2}
        # it looks once a second which of them are safe elsewhere, and whether more wait
        counted = 'dispatcher_rescued_jobs_total{substation="substation1"} 5.0'
        system.until(
            lambda: counted in system.get("dispatcher", "/metrics")[1], "all are counted", 5
        )
        system.until(lambda: "reclaimed" in system.log("dispatcher"), "the end is logged", 5)
        [line] = [line for line in system.log("dispatcher").splitlines() if "reclaimed" in line]
        assert "reclaimed 5 jobs that waited for substation1" in line


async def test_the_jobs_of_one_that_was_removed_go_to_the_others(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Removed from the target file, it gets no more jobs; those in its queue are reclaimed."""
    one = {**LONG, "CONNECTORS": "1", "RESCUE_AFTER_SECONDS": "1"}
    special = {"substation2": {**QUICK, "CONNECTORS": "5"}}
    with System(vhost, tmp_path, substations=2, environment=one, special=special) as system:
        to = (vhost.url("admin"), topology.SUBSTATIONS_EXCHANGE, "substation1")
        await publish(*to, ["first", "next", "waits"])
        wait_for(system, ["first"], "charging")
        system.write_targets(["substation2"])
        assert shares(wait_for(system, ["waits"], "completed")) == {"substation2": 1}
        system.kill("substation1")
        assert shares(wait_for(system, ["first", "next"], "completed")) == {"substation2": 2}


async def test_what_charges_at_a_substation_that_cannot_be_seen_is_left_alone(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Alive, but its page cannot be read: its session goes on, waiting jobs go to another."""
    one = {**LONG, "CONNECTORS": "1", "RESCUE_AFTER_SECONDS": "1"}
    special = {"substation2": {**QUICK, "CONNECTORS": "5"}}
    with System(vhost, tmp_path, substations=2, environment=one, special=special) as system:
        to = (vhost.url("admin"), topology.SUBSTATIONS_EXCHANGE, "substation1")
        await publish(*to, ["first", "next", "waits", "waits-too"])
        wait_for(system, ["first"], "charging")
        system.write_targets(system.substations, {"substation1": free_ports(1)[0]})
        jobs = wait_for(system, ["waits", "waits-too"], "completed")
        assert shares(jobs) == {"substation2": 2}
        assert job(system, "first")["status"] == "charging"
        assert job(system, "first")["substation"] == "substation1"
        assert sessions(system)["substation1"] == 1


def test_an_operator_drains_and_caps(vhost: VirtualHost, tmp_path: Path) -> None:
    """An operator's settings take effect at once, and survive restarts of all services."""
    environment = {**LONG, **operated(tmp_path), "CONNECTORS": "6"}
    with System(vhost, tmp_path, environment=environment) as system:
        put(system, "substation1", state="draining")
        put(system, "substation2", limit=2)
        system.until(lambda: _shown(system, "substation1") == ("draining", None), "it is shown")
        assert shares(wait_for(system, post(system, 8), "charging")) == {
            "substation2": 2,
            "substation3": 6,
        }
        for name in ("dispatcher", "api"):
            system.kill(name)
            system.start(name)
        system.wait_ready("api", "dispatcher", eligible=("substation2", "substation3"))
        waiting = post(system, 3)
        time.sleep(1)  # otherwise they would be sent at once
        assert {job(system, each)["status"] for each in waiting} == {"queued"}
        put(system, "substation1")
        assert shares(wait_for(system, waiting, "charging")) == {"substation1": 3}


def test_a_request_whose_vehicle_has_left_expires(vhost: VirtualHost, tmp_path: Path) -> None:
    """If its departure passes while it waits, it is never charged, and its record says why."""
    one = {**LONG, "CONNECTORS": "1"}
    with System(vhost, tmp_path, substations=1, environment=one) as system:
        wait_for(system, post(system, 1), "charging")
        soon = datetime.now(UTC) + timedelta(seconds=3)  # a busy api must get it before
        [leaves] = post(system, 1, departure_time=soon.isoformat())
        [stays] = post(system, 1)
        [found] = wait_for(system, [leaves], "expired")
        assert "departure" in found["reason"]
        assert list(found["times"]) == ["queued", "expired"]
        assert job(system, stays)["status"] == "queued"
        assert datetime.fromisoformat(found["times"]["expired"]) >= soon


def test_the_most_urgent_is_served_first(vhost: VirtualHost, tmp_path: Path) -> None:
    """Priority, then who must begin soonest, then age; whatever the order of arrival."""
    one = {**QUICK, **operated(tmp_path), "CONNECTORS": "1", "SEND_AHEAD": "0"}
    with System(vhost, tmp_path, substations=1, environment=one) as system:
        put(system, "substation1", state="draining")  # none is sent before all have arrived
        system.until(lambda: _shown(system, "substation1")[0] == "draining", "it is shown")
        later = datetime.now(UTC) + timedelta(hours=1)
        wishes: list[dict[str, object]] = [
            {"vehicle_id": "old"},
            {"vehicle_id": "young"},
            {"vehicle_id": "leaves", "departure_time": later.isoformat()},
            {
                "vehicle_id": "leaves with more to charge",
                "departure_time": later.isoformat(),
                "requested_energy_kwh": 5,
            },
            {"vehicle_id": "urgent", "priority": 9},
        ]
        status, answer = system.post(wishes, path="/charges")
        assert status == 202
        waiting = f"dispatcher_waiting_requests {float(len(wishes))}"
        system.until(lambda: waiting in str(system.get("dispatcher", "/metrics")[1]), "all wait")
        put(system, "substation1")
        jobs = system.wait_completed({each["id"] for each in answer["jobs"]})
        order = sorted(jobs, key=lambda each: str(each["times"]["charging"]))
        names = [each["request"]["vehicle_id"] for each in order]
        assert names == ["urgent", "leaves with more to charge", "leaves", "old", "young"]


def _shown(system: System, substation: str) -> tuple[str, int | None]:
    _, page = system.get("api", "/substations")
    found = [each for each in page["substations"] if each["id"] == substation]
    return (found[0]["state"], found[0]["limit"]) if found else ("", None)
