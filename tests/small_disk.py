"""A file system of limited size, with a RabbitMQ node on it.

It is mounted in a mount namespace of its own, which needs no rights beyond those of a user and goes
with the process that holds it: nothing is left behind, whatever ends the tests.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.broker import Broker

MEGABYTE: Final = 1_000_000
HOLD_SECONDS: Final = 10.0
_HOLDER: Final = 'mount -t tmpfs -o "size=$2" small "$1" && echo mounted && exec sleep infinity'


class SmallDisk:
    """A file system that is mounted at ``folder`` for the processes of its namespace only."""

    def __init__(self, folder: Path, holder: int) -> None:
        self._holder = holder
        self._outside = Path(f"/proc/{holder}/root{folder}")

    def within(self, command: list[str]) -> list[str]:
        """Return the command that runs another one where the file system is seen."""
        target = ["--target", str(self._holder), "--user", "--mount", "--preserve-credentials"]
        return ["nsenter", *target, "--", *command]

    def free(self) -> int:
        """Return how many bytes are free."""
        found = os.statvfs(self._outside)
        return found.f_bavail * found.f_frsize

    def path(self, name: str) -> Path:
        """Return where a file of it is seen by this process."""
        return self._outside / name

    def leave(self, size: int) -> None:
        """Have somebody else's file take all but so many bytes."""
        self.clear()
        taken = self.free() - size
        with self.path("ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, taken)

    def clear(self) -> None:
        """Remove somebody else's file."""
        self.path("ballast").unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """Mount a file system of so many bytes at a folder for as long as the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _HOLDER]
    holder = subprocess.Popen(  # noqa: S603
        [*command, "sh", str(folder), str(size)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert holder.stdout is not None, "its output is a pipe"
        said = holder.stdout.readline().decode()
        assert said == "mounted\n", f"no file system of its own for this test: {said}"
        yield SmallDisk(folder, holder.pid)
    finally:
        holder.kill()
        holder.wait(HOLD_SECONDS)
        if holder.stdout is not None:
            holder.stdout.close()


class SmallDiskBroker(Broker):
    """A node whose data lie on a small file system."""

    def __init__(self, folder: Path, disk: SmallDisk) -> None:
        super().__init__(folder)
        self.disk = disk

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        return super()._spawn(self.disk.within(command))
