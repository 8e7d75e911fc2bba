"""Status, restart and logs in containers, with what stands in for Docker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import yaml

from deploy import stack
from tests.deploy.clones import own_ports
from tests.deploy.copies import add_venv, copy_project

FAKE: Final = """#!/bin/sh
# an engine with the containers in FAKE_CONTAINERS
case "$*" in
  *'ps --all --quiet'*) echo c1 ;;
  *working_dir*) echo "$PWD/deploy" ;;
  inspect*) printf '%s\\n' "$FAKE_CONTAINERS" ;;
  *' logs '*)
    echo "called: $*" >>"$FAKE_CALLS"
    echo 'api-1          | {"time": "t", "level": "info", "message": "all is well"}'
    printf '\\033[2K'
    echo 'substation1-1  | {"time": "t", "level": "warning", "message": "a | b"}' ;;
  *) echo "called: $*" >>"$FAKE_CALLS" ;;
esac
"""
# as the machine's own Python, which runs Docker mode and stops what runs when there is no .venv
WITHOUT_PACKAGES: Final = (sys.executable, "-S")
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Return a function that runs a command of a stack of RabbitMQ alone, in containers."""
    project = copy_project(tmp_path / "project")
    (project / ".run").mkdir()
    (tmp_path / "calls").touch()
    settings = {"SERVICES": "rabbitmq"}
    state = {"mode": "docker", "ports": own_ports(), "settings": settings, "listening": []}
    (project / ".run" / "stack.json").write_text(json.dumps(state))
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(FAKE)
    docker.chmod(0o755)

    def run(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603
            [*WITHOUT_PACKAGES, "-m", "deploy.docker", command],
            cwd=project,
            env={
                "PATH": f"{docker.parent}:{os.environ['PATH']}",
                "FAKE_CALLS": str(tmp_path / "calls"),
                "FAKE_CONTAINERS": "rabbitmq running 0 healthy 4711",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def calls(tmp_path: Path) -> list[str]:
    """Return what Compose was called with, besides its files."""
    lines = (tmp_path / "calls").read_text().splitlines()
    return [line.rpartition(".yml ")[2] for line in lines]


@pytest.mark.parametrize("module", ["deploy.docker", "deploy.local.remains", "deploy.checkout"])
def test_what_runs_without_venv_imports_no_package(module: str) -> None:
    done = subprocess.run(  # noqa: S603
        [*WITHOUT_PACKAGES, "-c", f"import runpy; runpy.run_module('{module}')"],
        cwd=stack.ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_docker_status_shows_process_ids(call: Call) -> None:
    done = call("status")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  rabbitmq       running       4711  ready\n" in done.stdout


@pytest.mark.parametrize(
    ("containers", "state"),
    [
        ("rabbitmq exited 0 - 0", "exited"),
        ("rabbitmq running 0 unhealthy 4711", "running"),
        ("grafana running 0 healthy 4712", "absent"),
    ],
)
def test_docker_status_fails_when_a_container_is_down(
    call: Call, containers: str, state: str
) -> None:
    """Also if it is not there at all; the line says what its page says."""
    done = call("status", FAKE_CONTAINERS=containers)
    assert done.returncode == 1
    [line] = [each for each in done.stdout.splitlines() if each.startswith("  rabbitmq  ")]
    assert line.split()[1] == state
    assert "http://127.0.0.1:" in line


def test_docker_crash_kills_what_is_named(call: Call, tmp_path: Path) -> None:
    done = call("crash", SERVICE="rabbitmq")
    assert done.returncode == 0, done.stdout + done.stderr
    assert calls(tmp_path) == ["kill rabbitmq"]
    assert call("crash").returncode == 1


def test_docker_restart_restarts_what_is_named_and_waits(call: Call, tmp_path: Path) -> None:
    done = call("restart", SERVICE="rabbitmq")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Waiting until everything is ready" in done.stdout
    assert calls(tmp_path) == ["restart rabbitmq"]
    refused = call("restart", SERVICE="api")
    assert refused.returncode == 1
    assert refused.stderr == "SERVICE=api: must be of rabbitmq\n"
    assert call("restart").returncode == 1
    assert calls(tmp_path) == ["restart rabbitmq"]


def test_docker_logs_are_those_of_a_service_and_a_level(call: Call, tmp_path: Path) -> None:
    """Each line after the service's name."""
    done = call("logs", SERVICE="rabbitmq", LEVEL="warning")
    assert done.returncode == 0, done.stderr
    text = '{"time": "t", "level": "warning", "message": "a | b"}'
    assert done.stdout == f"substation1    | {text}\n"
    assert calls(tmp_path) == ["logs --follow --no-color --tail 1000 rabbitmq"]
    assert call("logs").stdout.count("\n") == 2
    assert call("logs", FOLLOW="0").returncode == 0
    assert calls(tmp_path)[-1] == "logs --no-color --tail 50"


@pytest.mark.usefixtures("call")
def test_clean_removes_containers_and_volumes_before_it_forgets_them(tmp_path: Path) -> None:
    """With a .venv, too: the mark that there are any is in a folder that is removed."""
    project = tmp_path / "project"
    add_venv(project)
    (project / ".run" / "docker").write_text("")
    cleaned = subprocess.run(
        ["make", "clean", "YES=1"],  # noqa: S607
        cwd=project,
        env={
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "FAKE_CALLS": str(tmp_path / "calls"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert cleaned.returncode == 0, cleaned.stdout + cleaned.stderr
    assert calls(tmp_path) == ["down --volumes --remove-orphans"]
    assert not (project / ".run").exists()


def test_docker_starts_a_service_named_alone_without_what_it_waits_for() -> None:
    """Without SERVICES, services wait for our own broker; a broker of the caller's is not here."""
    compose = yaml.safe_load((stack.ROOT / "deploy" / "docker-compose.yml").read_text())
    waits = {"condition": "service_healthy", "required": False}
    assert compose["x-service"]["depends_on"]["rabbitmq"] == waits
