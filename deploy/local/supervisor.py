"""The process supervisor (supervisord): its configuration, and talking to it while it runs.

It starts, restarts and stops programs, and rotates their logs. What it does not do is in
``processes.py`` and ``lock.py``: docs/decisions/0062.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from xmlrpc.client import Error, Fault, ProtocolError, ServerProxy

from supervisor.xmlrpc import SupervisorTransport, UnixStreamHTTPConnection

from deploy import stack
from deploy.files import digest, own_folder, write
from deploy.local import processes
from deploy.local.paths import WORKING_FOLDER, command, from_inside
from deploy.local.programs import Program
from grid.errors import ConfigurationError, GridError

CONFIG: Final = stack.STATE / "supervisord.conf"
PID_FILE: Final = stack.STATE / "supervisord.pid"
LOGS: Final = stack.STATE / "log"
SOCKET: Final = stack.STATE / "supervisor.sock"
SEEN_SOCKET: Final = from_inside(SOCKET)
# The socket's folder lets nobody else in; without a login, the supervisor warns at each start.
LOGIN: Final = "make"
CALL_SECONDS: Final = 30.0  # one that is stopped or hangs never answers
START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 90.0  # what RabbitMQ and the others may take
RUNNING: Final = "RUNNING"
LOG_BYTES, LOG_FILES = "10MB", 3


def config(programs: Iterable[Program], socket: Path = SEEN_SOCKET) -> str:
    """Return the text of ``supervisord.conf``.

    Raises:
        ConfigurationError: it cannot hold a command or a variable.
    """
    return "\n".join([_head(socket), *map(_section, programs)])


def _head(socket: Path) -> str:
    # it warns of running as root, unless that is configured
    user = "user=root\n" if os.getuid() == 0 else ""
    return f"""\
[unix_http_server]
file={_escaped(socket)}
chmod=0700
username={LOGIN}
password={LOGIN}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{_escaped(socket)}

[supervisord]
pidfile={_escaped(from_inside(PID_FILE))}
logfile={_escaped(from_inside(LOGS / "supervisord.log"))}
logfile_maxbytes={LOG_BYTES}
logfile_backups={LOG_FILES}
childlogdir={_escaped(from_inside(LOGS))}
directory={WORKING_FOLDER}
umask=077
{user}"""


def _section(program: Program) -> str:
    words = " ".join(map(_quoted, program.command))
    variables = dict(program.environment)
    if program.reads:  # the supervisor notices a change of the environment, but not of a file
        variables["CONFIG_DIGEST"] = digest(program.reads)
    environment = ",".join(_variable(name, value) for name, value in variables.items())
    return f"""\
[program:{program.name}]
command={words}
environment={environment}
priority={program.priority}
autorestart=true
startsecs=1
startretries=3
stopwaitsecs={program.stop_seconds}
stdout_logfile={_escaped(from_inside(log_file(program.name)))}
redirect_stderr=true
stdout_logfile_maxbytes={LOG_BYTES}
stdout_logfile_backups={LOG_FILES}
"""


def _escaped(value: object) -> str:
    return str(value).replace("%", "%%")


def _quoted(word: str) -> str:
    """Return a word of a command, quoted."""
    _check(word, word)
    text = _escaped(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _variable(name: str, value: str) -> str:
    """Return one variable of an environment: the format has quotes there, but no escapes."""
    _check(name, value)
    quote = "'" if '"' in value else '"'
    if quote in value or value.strip("'\"") != value:
        raise ConfigurationError(f"{name}: must not hold both ' and \", or begin or end with one")
    return f"{name}={quote}{_escaped(value)}{quote}"


def _check(name: str, text: str) -> None:
    """Refuse what the file's format takes as a line break or a comment, or cannot hold.

    Raises:
        ConfigurationError: the text has such a part.
    """
    if re.search(r"[\r\n]|\s[;#]", text):
        raise ConfigurationError(f"{name}: must not hold line breaks, ' ;' or ' #'")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name}={text!a}: must be UTF-8") from None


def log_file(name: str) -> Path:
    """Return the file that a program writes to."""
    return LOGS / f"{name}.log"


class _Connection(UnixStreamHTTPConnection):  # type: ignore[misc]  # it has no types
    """A connection to the supervisor's socket with a timeout."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(CALL_SECONDS)


class _Transport(SupervisorTransport):  # type: ignore[misc]  # it has no types
    def __init__(self, socket: Path) -> None:
        super().__init__(LOGIN, LOGIN, f"unix://{socket}")
        self._socket = socket
        self._get_connection = self._to_socket

    def _to_socket(self) -> _Connection:
        connection = _Connection("localhost")
        connection.socketfile = str(self._socket)
        return connection


def _ask(method: str, *arguments: object) -> Any:  # noqa: ANN401 - XML-RPC
    # a new connection each time: one that failed once cannot be used again
    with ServerProxy("http://localhost", _Transport(SEEN_SOCKET)) as proxy:
        return getattr(proxy.supervisor, method)(*arguments)


class Supervisor:
    """The supervisor of this folder, whether it runs or not."""

    def states(self) -> dict[str, str]:
        """Return every program's state, e.g. ``RUNNING``; nothing where no supervisor answers."""
        try:
            found = _ask("getAllProcessInfo")
        except (OSError, HTTPException, Error):
            return {}
        return {each["name"]: each["statename"] for each in found}

    def runs(self) -> bool:
        """Return whether it runs and answers."""
        return SOCKET.exists() and bool(self.states())

    def failed(self) -> list[str]:
        """Return the programs that ended again and again, until it no longer started them."""
        return [name for name, state in self.states().items() if state == "FATAL"]

    def run(self, programs: Sequence[Program], environment: Mapping[str, str]) -> None:
        """Run exactly these programs: start new ones, restart changed ones, stop the rest.

        Raises:
            GridError: the supervisor does not start, or does not do it.
        """
        own_folder(LOGS)
        write(CONFIG, config(programs))
        if not self.runs():
            self._start(environment)
            return
        [[added, changed, removed]] = self._call("reloadConfig")
        self._stop((*removed, *changed), max(each.stop_seconds for each in programs))
        for name in (*removed, *changed):
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)
        for name, state in self.states().items():
            if state in {"STOPPED", "EXITED", "FATAL"}:
                self._call("startProcess", name, False)  # noqa: FBT003 - do not wait for it

    def stop(self, first: Iterable[str], seconds: float) -> None:
        """Stop everything in order; the programs in ``first`` need the rest while they shut down.

        Args:
            first: names of programs.
            seconds: how long the slowest of those may take.

        Raises:
            GridError: the supervisor does not do it, or something does not end in time.
        """
        self._stop(first, seconds)
        pid = self._call("getPID")  # a supervisor that an earlier version started has no mark
        self._call("shutdown")
        self._until(
            lambda: processes.has_ended(pid) and not processes.ours(),
            "the supervisor and its programs have not all ended",
        )

    def restart(self, names: Sequence[str], seconds: float) -> None:
        """Stop some programs together, then start them: what the services need first.

        Args:
            names: of programs.
            seconds: how long the slowest of them may take to stop.

        Raises:
            GridError: the supervisor does not do it, or a program does not stop in time.
        """
        self._stop(names, seconds)
        for name in sorted(names, key=lambda name: (name not in processes.INFRASTRUCTURE, name)):
            self._call("startProcess", name, False)  # noqa: FBT003 - do not wait for it

    def kill(self, name: str) -> None:
        """End a program at once, as a crash does, and leave it ended until a restart.

        Raises:
            GridError: the supervisor does not do it, or the program does not run.
        """
        if not (pid := self._call("getProcessInfo", name)["pid"]):
            raise GridError(f"{name} does not run")
        os.kill(pid, signal.SIGSTOP)  # it sees no SIGTERM, by which the supervisor knows
        self._call("stopProcess", name, False)  # noqa: FBT003 - do not wait for it
        os.kill(pid, signal.SIGKILL)

    def _stop(self, names: Iterable[str], seconds: float) -> None:
        """Stop some programs together, and wait until they have ended."""
        states = self.states()
        waiting = [name for name in names if states.get(name) in {RUNNING, "STARTING"}]
        for name in waiting:
            self._call("stopProcess", name, False)  # noqa: FBT003 - do not wait for it

        def ended() -> bool:
            states = self.states()
            return all(states.get(name) != "STOPPING" for name in waiting)

        self._until(ended, "not all programs have stopped", seconds + STOP_SECONDS)

    def _call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401 - XML-RPC
        try:
            return _ask(method, *arguments)
        except Fault as fault:
            what = " ".join([method, *map(str, arguments)])
            raise GridError(f"the supervisor refuses {what}: {fault.faultString}") from fault
        except (OSError, HTTPException, ProtocolError) as error:
            raise GridError(
                f"the supervisor does not answer: {error}. See {LOGS}/supervisord.log"
            ) from error

    def _start(self, environment: Mapping[str, str]) -> None:
        done = subprocess.run(  # noqa: S603
            command([sys.executable, "-m", "supervisor.supervisord", "-c", str(CONFIG)]),
            env={**environment, **processes.marked()},
            cwd=stack.ROOT,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            raise GridError(f"the supervisor did not start: {done.stderr or done.stdout}")
        problem = f"the supervisor, whose log is {LOGS}/supervisord.log, does not answer"
        self._until(self.runs, problem, START_SECONDS)

    @staticmethod
    def _until(done: Callable[[], bool], otherwise: str, seconds: float = STOP_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise GridError(f"{otherwise} within {seconds:g} s")
            time.sleep(0.1)
