"""Ports for tests: free, and no other test's, be it of another worker that runs beside."""

from __future__ import annotations

import os
from typing import Final

from deploy.local import ports

BEGIN: Final = ports.LAST
END: Final = 32_000  # below those that Linux takes for outgoing connections
WORKERS: Final = 4  # at most run side by side
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Give so many different ports, all free now."""
    return [free_row(1)[0] for _ in range(count)]


def free_row(count: int) -> range:
    """Give so many ports in a row, all free now. None is given twice."""
    share = (END - BEGIN) // WORKERS
    begin = BEGIN + share * (_worker() % WORKERS)
    while True:
        row = ports.free_row(count, begin, begin + share)
        if _given.isdisjoint(row):
            _given.update(row)
            return row


def _worker() -> int:
    """Number the worker of pytest-xdist that this is; 0 where tests run one after the other."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
