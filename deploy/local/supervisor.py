"""The process supervisor: its configuration, and talking to it while it runs."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from deploy import stack
from deploy.files import digest, own_folder, write
from deploy.local.programs import Program
from grid.errors import ConfigurationError, GridError

CONFIG: Final = stack.STATE / "supervisord.conf"
PID_FILE: Final = stack.STATE / "supervisord.pid"
LOGS: Final = stack.STATE / "log"
SOCKET_PATH_LIMIT: Final = (
    100  # the system's is 108 bytes, and the supervisor adds a few of its own
)
START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 90.0  # what RabbitMQ and the others may take
LOG_BYTES, LOG_FILES = "10MB", 3


def socket_path() -> Path:
    """Give the path of the supervisor's socket: in the state folder, elsewhere if that is deep.

    Raises ``GridError`` where somebody else owns that other place.
    """
    path = stack.STATE / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    name = hashlib.sha256(os.fsencode(stack.ROOT)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"smart-grid-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise GridError(f"{folder} belongs to somebody else: remove it, or set TMPDIR to another")
    return folder / "supervisor.sock"


def config(programs: Iterable[Program], socket: Path) -> str:
    """Give the text of ``supervisord.conf``."""
    return "\n".join([_head(socket), *map(_section, programs)])


def _head(socket: Path) -> str:
    # it warns of running as root, unless it was told to
    user = "user=root\n" if os.getuid() == 0 else ""
    return f"""\
[unix_http_server]
file={_escaped(socket)}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{_escaped(socket)}

[supervisord]
pidfile={_escaped(PID_FILE)}
logfile={_escaped(LOGS / "supervisord.log")}
logfile_maxbytes={LOG_BYTES}
logfile_backups={LOG_FILES}
childlogdir={_escaped(LOGS)}
directory={_escaped(stack.ROOT)}
umask=077
{user}"""


def _section(program: Program) -> str:
    command = " ".join(map(_quoted, program.command))
    variables = dict(program.environment)
    if program.reads:  # the supervisor sees a change of the environment, but none of a file
        variables["CONFIG_DIGEST"] = digest(program.reads)
    environment = ",".join(_variable(name, value) for name, value in variables.items())
    return f"""\
[program:{program.name}]
command={command}
environment={environment}
priority={program.priority}
autorestart=true
startsecs=1
startretries=3
stopwaitsecs={program.stop_seconds}
stdout_logfile={_escaped(log_file(program.name))}
redirect_stderr=true
stdout_logfile_maxbytes={LOG_BYTES}
stdout_logfile_backups={LOG_FILES}
"""


def _escaped(value: object) -> str:
    return str(value).replace("%", "%%")


def _quoted(word: str) -> str:
    """Quote a word of a command."""
    _check(word, word)
    text = _escaped(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _variable(name: str, value: str) -> str:
    """Write one variable of an environment: the format knows quotes there, but no escapes."""
    _check(name, value)
    quote = "'" if '"' in value else '"'
    if quote in value or value.strip("'\"") != value:
        raise ConfigurationError(f"{name}: must not hold both ' and \", or begin or end with one")
    return f"{name}={quote}{_escaped(value)}{quote}"


def _check(name: str, text: str) -> None:
    """Refuse what the file's format takes for the end of a line or for a comment."""
    if re.search(r"[\r\n]|\s[;#]", text):
        raise ConfigurationError(f"{name}: must not hold line breaks, ' ;' or ' #'")


def log_file(name: str) -> Path:
    """Give the file that a program writes to."""
    return LOGS / f"{name}.log"


class Supervisor:
    """The supervisor of this folder, whether it runs or not."""

    def __init__(self) -> None:
        self.socket = socket_path()
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        self._call: Any = ServerProxy("http://localhost", transport=transport).supervisor

    def states(self) -> dict[str, str]:
        """Give every program's state, e.g. ``RUNNING``; nothing where no supervisor runs."""
        try:
            return {each["name"]: each["statename"] for each in self._call.getAllProcessInfo()}
        except (OSError, HTTPException, Fault):
            return {}

    def runs(self) -> bool:
        """Say whether it runs."""
        return self.socket.exists() and bool(self.states())

    def failed(self) -> list[str]:
        """Give the programs that ended again and again, until it no longer started them."""
        return [name for name, state in self.states().items() if state == "FATAL"]

    def run(self, programs: Sequence[Program], environment: Mapping[str, str]) -> None:
        """Run exactly these programs: start what is new, restart what changed, stop the rest."""
        own_folder(LOGS)
        write(CONFIG, config(programs, self.socket))
        if not self.runs():
            self._start(environment)
            return
        [[added, changed, removed]] = self._call.reloadConfig()
        for name in (*removed, *changed):
            self._call.stopProcessGroup(name)
            self._call.removeProcessGroup(name)
        for name in (*added, *changed):
            self._call.addProcessGroup(name)
        for name, state in self.states().items():
            if state in {"STOPPED", "EXITED", "FATAL"}:
                self._call.startProcess(name, False)  # noqa: FBT003 - do not wait for it

    def stop(self, first: Iterable[str], seconds: float) -> None:
        """Stop everything, ``first`` what needs the rest for an orderly end, all of it at once.

        ``seconds`` is how long the slowest of those may take.
        """
        states = self.states()
        waiting = [name for name in first if states.get(name) in {"RUNNING", "STARTING"}]
        for name in waiting:
            self._call.stopProcess(name, False)  # noqa: FBT003 - do not wait for it
        self._until(
            lambda: not self._any(waiting, "STOPPING"),
            "the services have not stopped",
            seconds + STOP_SECONDS,
        )
        pid = self._call.getPID()
        self._call.shutdown()
        self._until(lambda: _ended(pid), f"the supervisor, process {pid}, has not ended")

    def _any(self, names: Iterable[str], state: str) -> bool:
        states = self.states()
        return any(states.get(name) == state for name in names)

    def _start(self, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(CONFIG)]
        done = subprocess.run(  # noqa: S603
            command,
            env=dict(environment),
            cwd=stack.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise GridError(f"the supervisor did not start: {done.stderr or done.stdout}")
        deadline = time.monotonic() + START_SECONDS
        while not self.runs():
            if time.monotonic() > deadline:
                raise GridError(f"the supervisor does not answer: see {LOGS}/supervisord.log")
            time.sleep(0.1)

    @staticmethod
    def _until(done: Callable[[], bool], otherwise: str, seconds: float = STOP_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise GridError(f"{otherwise} within {seconds:g} s")
            time.sleep(0.1)


def _ended(pid: int) -> bool:
    """Say whether a process has ended, be it that nobody has taken note of it (a zombie)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"
