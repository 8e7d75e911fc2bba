"""Finding what was started here, and stopping it, whoever watches over it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import stack
from deploy.local import lock, processes
from deploy.local.processes import MARK, NAME, SUPERVISOR
from deploy.local.rabbitmq import Node, NodePorts
from tests.broker import Broker
from tests.ports import free_ports

Start = Callable[..., "subprocess.Popen[bytes]"]
SLEEP = "import time; time.sleep(60)"
# says when it is told to end; ends a moment after
ORDERLY = """
import os, signal, sys, time
def end(*_):
    with open("order", "a") as file: file.write(sys.argv[1] + " told\\n")
    time.sleep(0.3)
    with open("order", "a") as file: file.write(sys.argv[1] + " ended\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
open(sys.argv[1], "w").close()
time.sleep(60)
"""
STUBBORN = ORDERLY.replace("os._exit(0)", "return")
# as RabbitMQ does: its child is its own to end
PARENT = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[2]]);"
)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start processes as the stack of a folder would; none is left afterwards."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.setattr(stack, "ROOT", folder)
    started: list[subprocess.Popen[bytes]] = []

    def start_one(
        name: str | None, program: str = SLEEP, folder: Path = folder, mark: str | None = "x"
    ) -> subprocess.Popen[bytes]:
        variables = {"PATH": os.environ["PATH"]}
        variables |= {MARK: mark} if mark else {}
        variables |= {NAME: name} if name else {}
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", program, name or SUPERVISOR], env=variables, cwd=folder
        )
        started.append(process)
        until(lambda: "-c" in command_of(process.pid))
        return process

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def command_of(pid: int) -> str:
    """Return a process's command line: until it has become the program, its parent's."""
    return Path(f"/proc/{pid}/cmdline").read_text()


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def others(folder: Path) -> list[processes.Process]:
    """Return the processes of other stacks below a folder: beside this test others may run."""
    return [each for each in processes.of_others() if each.folder.is_relative_to(folder)]


def stop_here(seconds: float = 10) -> None:
    """Stop what runs here, reaping what a test started."""
    processes.stop(seconds, seconds)


def test_processes_are_found_by_mark_and_folder(start: Start, tmp_path: Path) -> None:
    """Not those of another folder, nor what else works in this one."""
    other = tmp_path / "other"
    other.mkdir()
    api, supervisor = start("api"), start(None)
    elsewhere = start("api", folder=other)
    start("api", mark=None)
    assert {each.pid: each.name for each in processes.ours()} == {
        api.pid: "api",
        supervisor.pid: SUPERVISOR,
    }
    assert [(each.pid, each.folder) for each in others(tmp_path)] == [(elsewhere.pid, other)]
    assert (
        processes.described(processes.ours()) == f"api ({api.pid}), supervisor ({supervisor.pid})"
    )


def test_processes_are_found_after_their_folder_was_moved(start: Start, tmp_path: Path) -> None:
    """The folder is the same under another name; a copy of it is another."""
    api = start("api")
    moved = stack.ROOT.rename(tmp_path / "moved")
    stack.ROOT.mkdir()
    assert processes.ours() == []
    [found] = others(tmp_path)
    assert (found.pid, found.folder) == (api.pid, moved)
    moved.rename(tmp_path / "there")
    stack.ROOT.rmdir()
    (tmp_path / "there").rename(stack.ROOT)
    assert [each.pid for each in processes.ours()] == [api.pid]


def test_stop_ends_services_before_infrastructure(start: Start) -> None:
    """The supervisor is killed first, so that it restarts nothing."""
    order = stack.ROOT / "order"
    for name in ("rabbitmq", "epmd", "api", "north"):
        start(name, ORDERLY)
        until((stack.ROOT / name).exists)
    start(None, ORDERLY)
    until((stack.ROOT / SUPERVISOR).exists)
    stop_here()
    assert processes.ours() == []
    said = order.read_text().splitlines()
    assert {*said[:2]} == {"api told", "north told"}
    assert {*said[2:4]} == {"api ended", "north ended"}
    assert said[4:] == ["rabbitmq told", "rabbitmq ended", "epmd told", "epmd ended"]


def test_stop_signals_children_only_if_they_are_left_behind(start: Start) -> None:
    """Signalling a child of RabbitMQ would end RabbitMQ too; a child left behind is signalled."""
    start(
        "rabbitmq",
        f"{PARENT}{SLEEP}".replace("sys.argv[1]", repr(ORDERLY)).replace("sys.argv[2]", "'child'"),
    )
    until((stack.ROOT / "child").exists)
    stop_here(0.5)
    assert processes.ours() == []
    assert (stack.ROOT / "order").read_text() == "child told\nchild ended\n"


def test_stop_kills_a_process_after_its_timeout(start: Start) -> None:
    """After its timeout, and not before."""
    start("api", STUBBORN)
    until((stack.ROOT / "api").exists)
    began = time.monotonic()
    stop_here(1)
    assert processes.ours() == []
    assert time.monotonic() - began >= 1


def test_stop_does_not_signal_a_process_with_a_reused_id(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that was found began at another time, so this one gets no signal."""
    api = start("api")
    [found] = processes.ours()
    earlier = replace(found, started=found.started - 1)
    seen = iter([[earlier], []])
    monkeypatch.setattr(processes, "ours", lambda: next(seen, []))
    stop_here()
    assert api.poll() is None


def holding(folder: Path) -> subprocess.Popen[str]:
    """Start a program that holds a folder's lock, or ends with the reason why not."""
    command = [sys.executable, "-I", lock.__file__, str(folder / "lock"), sys.executable]
    return subprocess.Popen(  # noqa: S603
        [*command, "-c", f"print('has it', flush=True); {SLEEP}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_data_lock_is_held_until_its_program_ends(tmp_path: Path) -> None:
    """A second program is refused with the id of the first, and may have it after a `kill -9`."""
    assert lock.holder(tmp_path / "lock") is None
    with holding(tmp_path) as first:
        assert first.stdout
        assert first.stdout.readline() == "has it\n"
        assert lock.holder(tmp_path / "lock") == str(first.pid)
        with holding(tmp_path) as second:
            why = second.communicate()[1]
        assert second.returncode == 1
        assert why == f"{tmp_path} is used by process {first.pid}: end that first\n"
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert lock.holder(tmp_path / "lock") is None
        with holding(tmp_path) as third:
            assert third.stdout
            assert third.stdout.readline() == "has it\n"
            third.kill()


@pytest.mark.integration
def test_second_rabbitmq_on_the_same_folder_is_refused(broker: Broker) -> None:
    """With ports of its own as well, and the first goes on: two would destroy the data."""
    other = Node(broker.node.folder, NodePorts(*free_ports(5)), "other@localhost")
    refused = subprocess.run(  # noqa: S603
        other.server_command(),
        env={"PATH": os.environ["PATH"], **other.environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 1
    assert f"{broker.node.folder} is used by process" in refused.stderr
    assert broker.request("GET", "/api/overview")["rabbitmq_version"]
