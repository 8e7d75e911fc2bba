"""Services that are forked off a process which has imported them: they start in no time.

A service's own start takes 0.6 to 0.9 s of a processor, nearly all of it to import libraries, and
the tests start hundreds. Python's own fork server imports them once for all the tests of a worker.
What a service does from its first line on is the same; its command line is the fork server's, and
so is what the loader was told, for example ``LD_PRELOAD``.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, Protocol

# what the services' ``__main__`` import, and what uvicorn imports when it starts
PRELOADED: Final = (
    "api.app",
    "api.settings",
    "dispatcher.app",
    "dispatcher.settings",
    "substation.service",
    "substation.settings",
    "uvicorn.lifespan.on",
    __name__,
)
_SERVER: Final = multiprocessing.get_context("forkserver")


class Running(Protocol):
    """A process, as ``subprocess.Popen`` has it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


class Forked:
    """A service ``python -m module``, forked: its output is appended to a file."""

    def __init__(
        self, module: str, folder: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        _SERVER.set_forkserver_preload([*PRELOADED])
        arguments = module, str(folder), dict(environment), str(log)
        self._process: BaseProcess = _SERVER.Process(target=_run, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(module: str, folder: str, environment: dict[str, str], log: str) -> None:
    """Become the service: everything that a program of its own gets at its start is set here."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
