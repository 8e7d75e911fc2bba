"""The load test against all services, around a real RabbitMQ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from deploy.local.ports import HOST
from tests.broker import VirtualHost
from tests.system import System

pytestmark = pytest.mark.e2e
# a busy hour: at six connectors, 60 requests a second are far more than they can charge at once
BUSY = {"CONNECTORS": "2", "CHARGE_SECONDS_MIN": "0.1", "CHARGE_SECONDS_MAX": "0.3"}
# Seconds of charging in one second. On a machine that is busy otherwise, all is late, and at half
# an hour a second by so much that vehicles leave uncharged; a fault shows at any speed.
SPEEDS = (1800, 1200, 600)
LATE_SECONDS = 60.0  # of the vehicles' time, by which requests are sent: then the machine lags
QUICK = {"CHARGE_SECONDS_MIN": "0.1", "CHARGE_SECONDS_MAX": "0.2"}


def load_test(*options: str, seconds: float, **environment: str) -> str:
    """Run the command with more variables; return what it prints if it succeeds in time."""
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "load_test", *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_load_test_through_api_and_amqp_loses_nothing(vhost: VirtualHost, tmp_path: Path) -> None:
    """Through the api and straight to RabbitMQ, every request is told of, completed and judged."""
    with System(vhost, tmp_path, environment=QUICK) as system:
        for via in ("api", "amqp"):
            file = tmp_path / f"{via}.json"
            url = f"http://{HOST}:{system.ports['api']}"
            options = ("--via", via, "--url", url, "--json", str(file))
            amqp_url = vhost.url("load_test")
            printed = load_test("-n", "40", "--rate", "40", *options, seconds=60, AMQP_URL=amqp_url)
            assert printed.count("[i] Substation Loads → [S1: ") == 40
            assert printed.count("[i] Routed to: substation") == 40
            figures = json.loads(file.read_text())
            assert (figures["completed"], figures["lost"], figures["duplicates"]) == (40, 0, 0)
            assert set(figures["share_per_substation"]) == set(system.substations)
            assert 0 < figures["mean_wait"] < 1
            assert figures["ideal_wait"] == 0  # there is a connector for everyone
            assert "wait above the ideal   " in printed
            assert (
                figures["share_least_loaded"] >= 0.8
            )  # a completion takes its time to be heard of


@pytest.mark.timeout(600)
def test_live_replay_meets_as_many_demands_as_in_virtual_time(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """More vehicles than nine connectors can charge: the order counts."""
    table, live, virtual = tmp_path / "stays.csv", tmp_path / "live.json", tmp_path / "virtual.json"
    random = Random(5)  # noqa: S311
    rows, at = [], datetime(2026, 5, 1, tzinfo=UTC)
    for _ in range(120):
        at += timedelta(minutes=random.expovariate(1 / 9))
        leaves = at + timedelta(hours=random.uniform(1, 8))
        rows.append(f"{at.isoformat()},{leaves.isoformat()},{random.uniform(3, 30):.1f}\n")
    table.write_text("arrival,departure,delivered_energy (kWh)\n" + "".join(rows))
    options = ("--virtual", "3x3", "--order", "deadline,fifo", "--json", str(virtual))
    load_test("replay", str(table), *options, seconds=120)
    _, deadline, fifo = json.loads(virtual.read_text())["rows"]
    assert fifo["demands_met"] < deadline["demands_met"] - 0.1
    expected = {
        "demands_met": pytest.approx(deadline["demands_met"], abs=0.08),  # a network is between
        "energy_delivered": pytest.approx(deadline["energy_delivered"], abs=0.05),
    }
    for speed in SPEEDS:
        environment = {"CHARGE_SPEED": str(speed), "CONNECTORS": "3"}
        folder = tmp_path / str(speed)
        folder.mkdir()
        with System(vhost, folder, environment=environment) as system:
            url = f"http://{HOST}:{system.ports['api']}"
            at_speed = ("--quiet", "--speed", str(speed), "--url", url, "--json", str(live))
            load_test("replay", str(table), *at_speed, seconds=240)
        figures = json.loads(live.read_text())
        found = {name: figures[name] for name in expected}
        if found == expected or speed * figures["sent_late"]["p95"] < LATE_SECONDS:
            break
    assert found == expected
    assert figures["demands_met"] <= figures["most_demands_met"]
    assert figures["energy_delivered"] <= figures["most_energy_delivered"]


def test_whatif_agrees_with_the_run_that_it_replays(vhost: VirtualHost, tmp_path: Path) -> None:
    """From the running api, and from the report of the run; the replay takes what the log has."""
    with System(vhost, tmp_path, environment=BUSY) as system:
        url = f"http://{HOST}:{system.ports['api']}"
        report = tmp_path / "report"
        commands = (
            ("-n", "200", "--rate", "60", "-q", "--url", url, "--report", str(report)),
            # the shorter the run and the sessions, the more the machine adds to each
            ("whatif", "--url", url, "--check", "15"),
            ("whatif", str(report / "run.json"), "--check", "15"),
        )
        for options in commands:
            printed = load_test(*options, seconds=90)
        assert "200 jobs; latencies: request " in printed
        assert "round-robin" in printed
    assert "Kept: each of 200 accepted requests" in (report / "report.html").read_text()
