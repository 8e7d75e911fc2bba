"""A lock on a data folder, held by the program that uses it: never two on one folder.

``python -I lock.py FILE PROGRAM [ARGUMENT …]`` acquires the lock and becomes the program, which
holds it for as long as it runs, however it ends. It is run by its path, with the standard library
alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import NoReturn


def holder(file: Path) -> str | None:
    """Return the process id of the lock's holder, as it was noted; None if nobody holds it."""
    try:
        with file.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().decode(errors="replace").strip() or "unknown"
            except OSError:  # a network file system without locks
                return None
    except FileNotFoundError:
        pass
    return None


def take(file: Path) -> int | None:
    """Acquire the lock for this process and what it becomes; None if another holds it."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:  # a network file system without locks
        sys.stderr.write(f"no lock on {file}: {error.strerror}: a second program is not kept out\n")
    with contextlib.suppress(OSError):  # a full disk must not prevent the start
        os.truncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
    os.set_inheritable(handle, True)  # noqa: FBT003
    return handle


def main(file: Path, command: list[str]) -> NoReturn:
    """Become the program, or exit with the reason why not."""
    if take(file) is None:
        sys.exit(f"{file.parent} is used by process {holder(file)}: end that first")
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
