"""`make up` without Docker, where a stack runs already: one for all these tests, in their order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from deploy import stack
from deploy.local.ports import HOST
from tests.deploy.clones import DEEP, Clone, make_clone
from tests.ports import free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.integration]

SNAPSHOT_SECONDS = 10.0  # the api knows from a snapshot each second what the dispatcher has


class Started(NamedTuple):
    """A copy of the project whose stack runs, and what the command said that started it."""

    clone: Clone
    said: str


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Start a stack; nothing of it runs afterwards."""
    clone = make_clone(tmp_path_factory.mktemp("started") / DEEP)
    try:
        clone.set(CHARGE_SECONDS_MIN="0", CHARGE_SECONDS_MAX="0.1")
        up = clone.call("up")
        assert up.returncode == 0, up.stdout + up.stderr
        yield Started(clone, up.stdout)
    finally:
        clone.call("down")


def test_up_with_an_unreachable_outside_broker_changes_nothing(started: Started) -> None:
    """The running stack and its state file are left unchanged."""
    clone, _ = started
    before = clone.processes()
    [nobody] = free_ports(1)
    secret = "a-secret-of-the-broker"  # noqa: S105
    refused = clone.call("up", AMQP_URL=f"amqp://somebody:{secret}@{HOST}:{nobody}/")
    assert refused.returncode == 1
    assert secret not in refused.stdout + refused.stderr
    assert clone.processes() == before
    assert clone.call("status").returncode == 0


def _substations(clone: Clone) -> list[str]:
    return [each["id"] for each in clone.fetch("/substations")["substations"]]


def pid_in(status: str, name: str) -> int:
    """Return the process id of a program as `make status` shows it."""
    [line] = [each for each in status.splitlines() if each.startswith(f"  {name} ")][:1]
    return int(line.split()[2])


def check_restart(clone: Clone) -> None:
    """Restart one of the programs; status shows which is down, and what is drained."""
    before = clone.call("status").stdout
    assert "Drained        substation4\n" in before
    os.kill(pid_in(before, "substation2"), signal.SIGSTOP)
    down = clone.call("status")
    os.kill(pid_in(before, "substation2"), signal.SIGCONT)
    assert down.returncode == 1, down.stdout
    [line] = [each for each in down.stdout.splitlines() if each.startswith("  substation2 ")][:1]
    assert "timed out" in line
    again = clone.call("restart", SERVICE="dispatcher substation1")
    assert again.returncode == 0, again.stdout + again.stderr
    after = clone.call("status")
    assert after.returncode == 0, after.stdout
    names = ("epmd", "rabbitmq", "api", "dispatcher", "substation1", "substation2", "prometheus")
    restarted = [name for name in names if pid_in(before, name) != pid_in(after.stdout, name)]
    assert restarted == ["dispatcher", "substation1"]


def test_up_twice_adds_a_substation_and_down_stops_everything(started: Started) -> None:
    """Up starts a system that routes; again, it adds a new substation; down leaves nothing."""
    clone, said = started
    assert f":{clone.ports[stack.MANAGEMENT]}" in said
    assert ".secrets/admin" in said
    assert ".secrets/operator" in said
    job = clone.fetch("/charge", "POST")
    assert job["details"]["routed_to"] in {"substation1", "substation2", "substation3"}
    before = clone.processes()

    clone.add_substation("substation4", 9104)
    again = clone.call("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert set(before) < set(clone.processes())  # nothing was restarted
    deadline = time.monotonic() + SNAPSHOT_SECONDS
    while "substation4" not in _substations(clone):
        assert time.monotonic() < deadline, f"the api knows {_substations(clone)}"
        time.sleep(0.1)
    assert clone.fetch(f"/charge/{job['id']}")["status"] == "completed"
    status = clone.call("status")
    assert status.returncode == 0, status.stdout
    assert [pid_in(status.stdout, "rabbitmq")] == [clone.node()]
    assert clone.drain("substation4") == {"id": "substation4", "state": "draining", "limit": None}
    check_restart(clone)
    clone.leave_out_substation("substation4")
    last = clone.call("up")
    assert last.returncode == 0, last.stdout + last.stderr
    assert "Removed RabbitMQ's user substation.substation4:" in last.stdout
    assert not (clone.folder / ".secrets" / "substation.substation4").exists()

    passwords = [file.read_text().strip() for file in (clone.folder / ".secrets").iterdir()]
    assert not [line for line in clone.processes().values() for each in passwords if each in line]

    assert clone.call("down").returncode == 0
    assert clone.processes() == {}
    assert clone.call("running").returncode == 1
