"""The programs that are measured: starting them, reading what they have used, ending them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.ports import DIRECTLY, HOST
from grid.errors import GridError

ROOT: Final = Path(__file__).resolve().parent.parent
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
POLL_INTERVAL: Final = 0.05
TICKS: Final = os.sysconf("SC_CLK_TCK")
USER_TIME, RESIDENT_PAGES = 11, 21  # in /proc/<pid>/stat, counted from after the name
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
OK: Final = 200


class NotMeasured(GridError):
    """A program that was to be measured failed."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs; ``log`` is the file with all it writes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    def check(self) -> None:
        """Raise ``NotMeasured`` if it has ended."""
        if (status := self.process.poll()) is not None:
            raise NotMeasured(f"{self.name} ended with status {status}:\n{self.log_end()}")

    def log_end(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """Stop it in order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_SECONDS)


@contextmanager
def program(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    working_folder: Path = ROOT,
) -> Iterator[Program]:
    """Run a program while the context lasts. It gets these variables, and ``PATH``."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=working_folder,
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Program(name, process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(STOP_SECONDS)


def module(name: str) -> list[str]:
    """Return the command that runs a module with this Python."""
    return [sys.executable, "-m", name]


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far, in user and system mode."""
    fields = _stat(pid)
    return (int(fields[USER_TIME]) + int(fields[USER_TIME + 1])) / TICKS


def resident_mb(pid: int) -> float:
    """Return the memory that a process has in use, in MB."""
    return int(_stat(pid)[RESIDENT_PAGES]) * PAGE_BYTES / 1e6


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def page(port: int, path: str) -> tuple[int, bytes]:
    """Return status and content of a page on this machine; status 0 if nothing answers."""
    try:
        with DIRECTLY.open(f"http://{HOST}:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


async def until(
    holds: Callable[[], bool],
    what: str,
    programs: Sequence[Program] = (),
    seconds: float = READY_SECONDS,
) -> None:
    """Wait until a condition holds. Raise ``NotMeasured`` if a program ends, or on a timeout."""
    deadline = time.monotonic() + seconds
    while not holds():
        for each in programs:
            each.check()
        if time.monotonic() > deadline:
            logs = "\n".join(f"--- {each.name}\n{each.log_end()}" for each in programs)
            raise NotMeasured(f"not within {seconds:g} s: {what}\n{logs}")
        await asyncio.sleep(POLL_INTERVAL)


async def until_page(port: int, path: str, programs: Sequence[Program] = ()) -> None:
    """Wait until a page is answered with 200."""
    await until(lambda: page(port, path)[0] == OK, f"{path} on port {port} is answered", programs)
