"""Copies of the project that are really started, with ports of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy import stack
from deploy.local.ports import DIRECTLY, HOST
from tests.deploy.copies import copy_project
from tests.ports import free_ports, free_row

SUBSTATION_PORTS = 4  # three, and one that a test adds
DEEP = "a-folder-with-a-long-name" * 4  # a socket's path may have 108 bytes


PYTHON = (sys.executable, "-m")
AWKWARD = '充電 it\'s a[1]b 100%done "q" $x `y` #;z *?\\ ü'


@dataclass(frozen=True)
class Clone:
    """A copy of the project, with ports of its own."""

    folder: Path
    ports: dict[str, int]

    def call(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one command of the stack, e.g. ``up``, with the settings of its ``.env``."""
        ports = {name: str(port) for name, port in self.ports.items()}
        return subprocess.run(  # noqa: S603
            [*PYTHON, "deploy.env_file", *PYTHON, "deploy.local", command],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **ports, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def set(self, **settings: str) -> None:
        """Write these settings into its ``.env``."""
        (self.folder / ".env").write_text("".join(f"{a}={b}\n" for a, b in settings.items()))

    def fetch(self, path: str, method: str = "GET") -> Any:  # noqa: ANN401 - JSON
        """Ask the api."""
        request = urllib.request.Request(
            f"http://{HOST}:{self.ports[stack.API]}{path}", method=method
        )
        with DIRECTLY.open(request, timeout=20) as answer:
            return json.load(answer)

    def environments(self) -> str:
        """Return the variables of every process that belongs to this copy."""
        return "".join(_read(Path(f"/proc/{pid}/environ")) for pid in self.processes())

    def kill_supervisor(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End what watches over the others as the machine's out-of-memory killer would."""
        os.kill(int((self.folder / ".run" / "supervisord.pid").read_text()), how)

    def node(self) -> int:
        """Return the process id of the RabbitMQ that runs here."""
        [found] = [pid for pid, command in self.processes().items() if "beam.smp" in command]
        return found

    def drain(self, substation: str) -> Any:  # noqa: ANN401 - JSON
        """Drain a substation with the operator's key."""
        key = (self.folder / ".secrets" / "operator").read_text().strip()
        request = urllib.request.Request(
            f"http://{HOST}:{self.ports[stack.API]}/substations/{substation}",
            b'{"state": "draining"}',
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            method="PUT",
        )
        with DIRECTLY.open(request, timeout=20) as answer:
            return json.load(answer)

    def processes(self) -> dict[int, str]:
        """Return the command line of every process that belongs to this copy, by process id."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            command = _read(process / "cmdline").replace("\0", " ")
            ours = f"SMART_GRID_STACK={quote(str(self.folder))}"
            if command and ours in _read(process / "environ"):
                found[int(process.name)] = command
        return found

    def leave_out_substation(self, name: str) -> None:
        """Remove a substation from the targets file."""
        file = self.folder / "deploy" / "local" / "substations.json"
        groups = json.loads(file.read_text())
        file.write_text(
            json.dumps([each for each in groups if each["labels"]["substation"] != name])
        )

    def add_substation(self, name: str, port: int) -> None:
        """Write one more substation into the targets file."""
        file = self.folder / "deploy" / "local" / "substations.json"
        groups = json.loads(file.read_text())
        groups.append({"targets": [f"{HOST}:{port}"], "labels": {"substation": name}})
        file.write_text(json.dumps(groups))


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:  # ended meanwhile, or somebody else's
        return ""


def own_ports() -> dict[str, int]:
    """Return a free port for each variable: at the usual ones a system may run."""
    names = [name for name in stack.PORTS if name != stack.SUBSTATIONS]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return {**ports, stack.SUBSTATIONS: free_row(SUBSTATION_PORTS)[0]}


def make_clone(folder: Path) -> Clone:
    """Copy the project into a folder."""
    copy_project(folder)
    groups = [
        {"targets": [f"{HOST}:{9100 + number}"], "labels": {"substation": f"substation{number}"}}
        for number in (1, 2, 3)
    ]
    (folder / "deploy" / "local" / "substations.json").write_text(json.dumps(groups))
    return Clone(folder, own_ports())
