"""Programs that are forked off a process which has imported what they need: they start at once.

A service's own start takes 0.6 to 0.9 s of a processor, nearly all of it to import libraries, and
the tests start hundreds. Python's own fork server imports them once for all the tests of a worker.
What a program does from its first line on is the same; its command line is the fork server's, and
so is what the loader was told, for example ``LD_PRELOAD``.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
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
    "supervisor.xmlrpc",
    "uvicorn.lifespan.on",
    __name__,
)
PROJECT: Final = frozenset(
    {"api", "deploy", "dispatcher", "grid", "load_test", "scheduling", "substation"}
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


def run_in_copy(
    module: str, words: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module`` in a copy of the project to its end, and return its output.

    The project's own modules are those of the copy; libraries are imported already.
    """
    with tempfile.TemporaryDirectory(prefix="grid-forked-") as temporary:
        files = [Path(temporary) / name for name in ("stdout", "stderr")]
        _SERVER.set_forkserver_preload([*PRELOADED])
        arguments = module, [*words], str(folder), dict(environment), [*map(str, files)]
        process = _SERVER.Process(target=_run_in_copy, args=arguments, daemon=True)
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([module, *words], seconds)
        out, err = (file.read_text() for file in files)
        return subprocess.CompletedProcess([module, *words], process.exitcode, out, err)


def _run(module: str, folder: str, environment: dict[str, str], log: str) -> None:
    """Become the service."""
    os.setsid()
    _become(folder, environment, log, log)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _run_in_copy(
    module: str, words: list[str], folder: str, environment: dict[str, str], files: list[str]
) -> None:
    """Become the program of the copy, as if nothing of the project had been imported."""
    _become(folder, environment, *files)
    for name in [*sys.modules]:
        if name.partition(".")[0] in PROJECT:
            del sys.modules[name]
    sys.path.insert(0, folder)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _become(folder: str, environment: dict[str, str], *files: str) -> None:
    """Set what a program of its own gets at its start."""
    for descriptor, file in enumerate((os.devnull, *files)):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT if descriptor else os.O_RDONLY
        opened = os.open(file, flags, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
