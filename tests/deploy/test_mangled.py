"""Damaged files: one sentence says which file and what is wrong, and there is no traceback."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from deploy import stack
from tests.deploy.clones import Clone, own_ports
from tests.deploy.copies import copy_project
from tests.forked import run_in_copy

STATE_FILE: Final = {"mode": "local", "ports": dict(stack.PORTS), "settings": {}, "listening": []}
FAKE_DOCKER: Final = """#!/bin/sh
# an engine with one container of the stack
case "$*" in
  *'ps --all --quiet'*)
    [ -z "$FAKE_STATUS" ] || { echo "no engine" >&2; exit "$FAKE_STATUS"; }
    echo c1 ;;
  inspect*) printf '%s\\n' "$FAKE_FOLDER" ;;
  *) echo "called: $*" >>"$FAKE_CALLS"; env >>"$FAKE_CALLS" ;;
esac
"""


def folder_in_place(path: Path) -> None:
    """Make a folder in place of a file, which not even root can read as a file."""
    path.unlink(missing_ok=True)
    path.mkdir()


def content(data: bytes) -> Callable[[Path], None]:
    """Return a function that writes this content to a file."""

    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


STATE_FILES: Final[Mapping[str, tuple[Callable[[Path], None], str]]] = {
    "half of it": (content(b'{"mode": "local", "po'), "is not JSON"),
    "nothing": (content(b""), "is not JSON"),
    "another encoding": (content('{"mode": "ö"}'.encode("utf-16")), "not UTF-8"),
    "a list": (content(b"[1]"), "does not describe a running stack"),
    "no ports": (content(b'{"mode": "local"}'), "does not describe a running stack"),
    "ports that are none": (
        content(json.dumps({**STATE_FILE, "ports": {"API_PORT": "x"}}).encode()),
        "does not describe a running stack",
    ),
    "settings that are none": (
        content(json.dumps({**STATE_FILE, "settings": {"GRACE_SECONDS": 1}}).encode()),
        "does not describe a running stack",
    ),
    "not to be read": (folder_in_place, "cannot be read"),
}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """Yield a copy of the project in which nothing runs, nor does afterwards."""
    folder = copy_project(tmp_path / "project")
    for name in (".run", ".secrets"):
        (folder / name).mkdir()
    yield folder
    if Clone(folder, {}).processes():
        call(folder, "deploy.local", "down")


def call(
    project: Path, module: str, *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the stack."""
    return run_in_copy(module, words, project, {"PATH": os.environ["PATH"], **variables}, 60)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence of a command that has failed."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("kind", STATE_FILES)
def test_unreadable_stack_state_is_named_and_down_still_works(kind: str, project: Path) -> None:
    """Status says what is wrong and that `make down` helps, which does work."""
    damage, words = STATE_FILES[kind]
    stack_state = project / ".run" / "stack.json"
    damage(stack_state)
    for module, command in (("deploy.local", "status"), ("deploy.docker", "status")):
        why = refusal(call(project, module, command))
        assert str(stack_state) in why
        assert words in why
        assert "make down" in why
    for module in ("deploy.load", "deploy.parked"):
        assert words in refusal(call(project, module))
    if stack_state.is_file():
        assert call(project, "deploy.local", "down").returncode == 0
        assert not stack_state.exists()


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        (".secrets/api", content(b"\xff\xfe"), "not UTF-8"),
        (".secrets/api", folder_in_place, "cannot be read: Is a directory"),
        (".secrets/api", content(b""), "is empty"),
        (".secrets/operator", content(b"\n"), "is empty"),
        (".run/rabbitmq/.erlang.cookie", folder_in_place, "cannot be read: Is a directory"),
        ("deploy/local/substations.json", content(b"\xff[]"), "not JSON"),
        ("deploy/local/substations.json", content(b"[{"), "not JSON"),
        ("deploy/local/substations.json", folder_in_place, "is no regular file"),
        (
            "deploy/local/substations.json",
            content(b'[{"targets": ["127.0.0.1:99999"], "labels": {"substation": "a"}}]'),
            "a target is wrong",
        ),
        (
            "deploy/local/substations.json",
            content(b'[{"targets": ["127.0.0.1:9101"], "labels": {"substation": "api"}}]'),
            "api: must be another name",
        ),
        ("deploy/prometheus/prometheus.yml", content(b"\xff"), "not UTF-8"),
        ("deploy/prometheus/prometheus.yml", content(b"rule_files: ["), "is not what is expected"),
        ("deploy/prometheus/prometheus.yml", content(b"a: 1"), "is not what is expected"),
        ("deploy/prometheus/alerts.yml", folder_in_place, "cannot be read: Is a directory"),
    ],
)
def test_up_names_an_unusable_file(
    file: str, damage: Callable[[Path], None], words: str, project: Path
) -> None:
    """With its path and the reason; nothing is started."""
    path = project / file
    path.parent.mkdir(exist_ok=True)
    damage(path)
    why = refusal(free_up(project))
    assert words in why
    assert str(path) in why


def free_up(project: Path) -> subprocess.CompletedProcess[str]:
    """Start the stack with every port taken for free."""
    patch = project / "deploy" / "local" / "ports.py"
    text = patch.read_text()
    patch.write_text(
        text.replace(
            "    with socket.socket() as probe:\n        # as",
            "    return True\n    with socket.socket() as probe:\n        # as",
        )
    )
    return call(project, "deploy.local", "up")


def test_up_names_a_state_folder_that_is_no_folder(project: Path) -> None:
    """The error names it, like any other error of the machine."""
    (project / ".run").rmdir()
    (project / ".run").write_text("")
    assert ".run" in refusal(free_up(project))
    assert call(project, "deploy.local", "status").returncode == 1


@pytest.mark.parametrize(
    ("file", "data", "words"),
    [
        ("deploy/prometheus/substations.json", b"[{", "must be a JSON list"),
        ("deploy/prometheus/substations.json", b'[{"targets": []}]', "must be a JSON list"),
        ("deploy/prometheus/substations.json", b"\xff", "not UTF-8"),
        (".run/docker", b"\xff", "not UTF-8"),
        (".secrets/api", b"\xff", "not UTF-8"),
    ],
)
def test_up_in_containers_names_an_unusable_file(
    file: str, data: bytes, words: str, project: Path, tmp_path: Path
) -> None:
    """The same as without containers."""
    (project / file).write_bytes(data)
    why = refusal(with_docker(project, tmp_path, "up", FAKE_FOLDER=str(project / "deploy")))
    assert words in why
    assert file in why


def with_docker(
    project: Path, tmp_path: Path, command: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the stack in containers, with what stands in for Docker."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir(exist_ok=True)
    docker.write_text(FAKE_DOCKER)
    docker.chmod(0o755)
    variables = {
        "PATH": f"{docker.parent}:{os.environ['PATH']}",
        "FAKE_CALLS": str(tmp_path / "calls"),
        **{name: str(port) for name, port in own_ports().items()},
        **variables,
    }
    return call(project, "deploy.docker", command, **variables)


@pytest.mark.parametrize("command", ["up", "down", "clean", "running"])
def test_containers_of_another_checkout_are_left_alone(
    command: str, project: Path, tmp_path: Path
) -> None:
    """They have the same names: the error says where they were started, and they are left alone."""
    other = tmp_path / "other" / "deploy"
    other.mkdir(parents=True)
    why = refusal(with_docker(project, tmp_path, command, FAKE_FOLDER=str(other)))
    assert f"The containers of this stack were started from {other}" in why
    assert not (tmp_path / "calls").exists()


def test_containers_are_stopped_from_a_renamed_folder(project: Path, tmp_path: Path) -> None:
    """The old folder is gone, and Compose's own variables of the caller do not lead elsewhere."""
    hostile = {"COMPOSE_PROJECT_NAME": "x", "COMPOSE_FILE": "/x", "SECRETS_WRITTEN": "x"}
    moved = str(tmp_path / "before")
    done = with_docker(project, tmp_path, "down", FAKE_FOLDER=moved, **hostile)
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text()
    assert "down --remove-orphans" in calls
    assert not [name for name in hostile if f"{name}={hostile[name]}" in calls]


@pytest.mark.parametrize("command", ["down", "clean", "up"])
def test_down_fails_when_the_docker_engine_does_not_answer(
    command: str, project: Path, tmp_path: Path
) -> None:
    """The file that describes the running stack stays."""
    stack_state = project / ".run" / "stack.json"
    stack_state.write_text(json.dumps({**STATE_FILE, "mode": "docker"}))
    done = with_docker(project, tmp_path, command, FAKE_STATUS="1")
    assert done.returncode == 1
    assert "Docker does not say which containers there are" in done.stderr
    assert stack_state.exists()
