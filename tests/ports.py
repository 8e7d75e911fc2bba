"""Ports for tests: free, and given to no other test, of this run or of one beside it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from deploy.local import ports

BEGIN: Final = ports.LAST
END: Final = 32_000  # below those that Linux takes for outgoing connections
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Return so many different ports, all free now."""
    return [free_row(1)[0] for _ in range(count)]


def free_row(count: int) -> range:
    """Return so many ports in a row, all free now. None is given twice."""
    while True:
        row = ports.free_row(count, BEGIN, END)
        if _given.isdisjoint(row) and all(map(_claim, row)):
            _given.update(row)
            return row


def _claim(port: int) -> bool:
    """Claim a port until this process ends; return whether no other process has.

    A port is given some time before a server listens there: until then it looks free to others.
    """
    try:
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    return True


@cache
def _claims() -> int:
    """Open the file whose bytes stand for ports: whoever has one locked has claimed the port."""
    path = Path(tempfile.gettempdir()) / f"smart-grid-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
