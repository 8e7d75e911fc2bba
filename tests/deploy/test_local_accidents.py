"""`make up` without Docker: killed, hanging, interrupted, its data in use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.deploy.clones import Clone
from tests.deploy.copies import copy_project

pytestmark = [pytest.mark.e2e, pytest.mark.integration]


def test_processes_of_a_killed_supervisor_are_found(clone: Clone) -> None:
    """Status names it, up starts all anew, clean stops it before it removes the data."""
    clone.set(CONNECTORS="5", CHARGE_SECONDS_MIN="0", CHARGE_SECONDS_MAX="0.1")
    assert clone.call("up").returncode == 0
    node = clone.node()
    clone.kill_supervisor()
    status = clone.call("status")
    assert status.returncode == 1
    assert "No supervisor answers, but these run:" in status.stdout
    assert f"rabbitmq ({node})" in status.stdout
    assert clone.call("running").returncode == 0

    again = clone.call("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"rabbitmq ({node})" in again.stdout
    assert clone.node() != node  # and there is one alone
    connectors = {each["connectors"] for each in clone.fetch("/substations")["substations"]}
    assert connectors == {5}, "it keeps what it was told"

    clone.kill_supervisor()
    other = Clone(clone.folder.parent / "other", clone.ports)
    copy_project(other.folder)
    refused = other.call("up")
    assert refused.returncode == 1
    assert f"A stack runs from {str(clone.folder)!r}" in refused.stderr
    assert f"rabbitmq ({clone.node()})" in refused.stderr
    assert other.call("down").stdout == "Nothing runs.\n"
    assert clone.processes()

    cleaned = clone.call("clean")
    assert cleaned.returncode == 0, cleaned.stdout + cleaned.stderr
    assert clone.processes() == {}
    assert not (clone.folder / ".run").exists()


def test_hanging_supervisor_is_ended_with_its_processes(clone: Clone) -> None:
    """It does not answer: the command does not wait for ever, and nothing is left."""
    module = clone.folder / "deploy" / "local" / "supervisor.py"
    patient = "CALL_SECONDS: Final = 30.0"
    assert patient in module.read_text()
    module.write_text(module.read_text().replace(patient, "CALL_SECONDS: Final = 3.0"))
    assert clone.call("up", CHARGE_SECONDS_MIN="0", CHARGE_SECONDS_MAX="0.1").returncode == 0
    clone.kill_supervisor(signal.SIGSTOP)
    down = clone.call("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert "Stopping processes that run without a supervisor: supervisor (" in down.stdout
    assert clone.processes() == {}


def test_up_and_clean_refuse_data_used_by_another_process(clone: Clone) -> None:
    """Up and clean refuse, with the process: a node that was started some other way."""
    lock = clone.folder / ".run" / "rabbitmq" / "lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("4711\n")
    with subprocess.Popen(  # noqa: S603
        ["flock", lock, "sh", "-c", "echo locked; read x"],  # noqa: S607
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as stranger:
        assert stranger.stdout
        stranger.stdout.readline()
        for command in ("up", "clean"):
            refused = clone.call(command)
            assert refused.returncode == 1
            assert f"{lock.parent} is used by process 4711" in refused.stderr
        stranger.communicate()
    assert lock.exists()
    assert clone.processes() == {}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Have what is started here hear SIGINT, also where these tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupted_up_stops_what_it_started(clone: Clone) -> None:
    """Ctrl-C half-way stops what was started, and says so in one word."""
    ports = {name: str(port) for name, port in clone.ports.items()}
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.local", "up"],
        cwd=clone.folder,
        env={"PATH": os.environ["PATH"], **ports},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as up:
        assert up.stdout
        assert up.stdout.readline() == "Waiting until everything is ready\n"
        assert clone.processes()
        os.killpg(up.pid, signal.SIGINT)
        said = up.communicate()
    assert up.returncode == 130
    assert said[1] == "Interrupted.\n"
    assert "stopping everything again" in said[0]
    assert clone.processes() == {}
