"""The processes of this stack, found by a mark that each carries, whatever supervises them.

Each inherits a mark in its environment from the supervisor and has this folder as its working
folder, under whatever name. So no list of process ids can be out of date, and a copy of the folder,
another checkout, or a process that has got the id of one of ours is never mistaken for it. It uses
the standard library alone, so that it works without .venv.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from deploy import stack
from grid.errors import GridError

MARK: Final = "SMART_GRID_STACK"
NAME: Final = "SUPERVISOR_PROCESS_NAME"  # which the supervisor gives each program
SUPERVISOR: Final = "supervisor"
# everything else is a service, which can shut down in order only while these run
INFRASTRUCTURE: Final = frozenset({"epmd", "rabbitmq", "prometheus", "grafana"})
POLL_INTERVAL: Final = 0.1
KILL_SECONDS: Final = 10.0
PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One process with the mark; ``name`` is its program's, which its children share."""

    pid: int
    parent: int
    started: int  # in clock ticks since the machine started
    name: str
    folder: Path  # its working folder

    @property
    def is_ours(self) -> bool:
        """Return whether it belongs to the stack of this folder."""
        try:
            return (PROC / str(self.pid) / "cwd").samefile(stack.ROOT)
        except OSError:  # ended meanwhile
            return False


def marked() -> dict[str, str]:
    """Return the variable that marks the processes of this stack."""
    # Erlang accepts only UTF-8 in the environment
    return {MARK: quote(os.fsencode(stack.ROOT))}


def ours() -> list[Process]:
    """Return every process of the stack of this folder."""
    return [each for each in _all() if each.is_ours]


def of_others() -> list[Process]:
    """Return every process of the stack of another folder, as far as this user may see it."""
    return [each for each in _all() if not each.is_ours]


def has_ended(pid: int) -> bool:
    """Return whether a process has ended, or is a zombie."""
    try:
        status = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return True
    return status.rpartition(b")")[2].split()[0] == b"Z"


def described(processes: Iterable[Process]) -> str:
    """Return the programs' names, each with the process id of the first of its processes."""
    return ", ".join(f"{name} ({pid})" for name, pid in pids(processes).items())


def pids(processes: Iterable[Process]) -> dict[str, int]:
    """Return the process id of each program: that of the first of its processes."""
    first: dict[str, int] = {}
    for each in sorted(processes, key=lambda process: (process.started, process.pid)):
        first.setdefault(each.name, each.pid)
    return first


def stop(service_seconds: float, other_seconds: float) -> None:
    """Stop every process of this stack: the supervisor, the services, then what these need.

    Args:
        service_seconds: how long the services may take before they are killed.
        other_seconds: how long RabbitMQ and the others may take.

    Raises:
        GridError: one of them cannot be ended.
    """
    # the supervisor is killed: it did not answer, and must start nothing again
    _end(lambda each: each.name == SUPERVISOR, 0)
    _end(lambda each: each.name not in INFRASTRUCTURE, service_seconds)
    _end(lambda each: each.name != "epmd", other_seconds)
    _end(lambda _: True, other_seconds)


def _end(wanted: Callable[[Process], bool], seconds: float) -> None:
    """End these processes of ours with SIGTERM, and what is left after a time with SIGKILL."""
    reported: set[Process] = set()
    deadline = time.monotonic() + seconds
    while left := {*filter(wanted, ours())}:
        late = time.monotonic() - deadline
        if late > KILL_SECONDS:
            raise GridError(f"processes did not end after SIGKILL: {described(left)}")
        if late >= 0:
            _send(signal.SIGKILL, left)
        else:  # a program that runs ends its children itself
            pids = {each.pid for each in left}
            new = {each for each in left if each.parent not in pids} - reported
            _send(signal.SIGTERM, new)
            reported |= new
        time.sleep(POLL_INTERVAL)


def _send(what: signal.Signals, processes: Iterable[Process]) -> None:
    for each in processes:
        try:
            handle = os.pidfd_open(each.pid)
        except OSError:  # ended meanwhile
            continue
        try:
            # from here on the id cannot be reused
            if _read(each.pid) == each:
                signal.pidfd_send_signal(handle, what)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


def _all() -> Iterator[Process]:
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and (found := _read(int(entry.name))):
            yield found


def _read(pid: int) -> Process | None:
    """Return a process that has the mark; None for any other, and for one that has ended."""
    folder = PROC / str(pid)
    try:
        environment = _environment(folder)
        if MARK.encode() not in environment:
            return None
        # the name in parentheses may hold anything
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        working_folder = Path(os.readlink(folder / "cwd"))  # noqa: PTH115 - bytes may be anything
    except OSError:  # ended meanwhile, or another user's
        return None
    name = environment.get(NAME.encode(), SUPERVISOR.encode()).decode(errors="replace")
    return Process(pid, int(fields[1]), int(fields[19]), name, working_folder)


def _environment(folder: Path) -> Mapping[bytes, bytes]:
    variables = (folder / "environ").read_bytes().split(b"\0")
    return {name: value for name, _, value in (each.partition(b"=") for each in variables)}
