"""Runs a service as ``python -m`` does, and counts what its loop and its sockets ask of the kernel.

``python -m tests.end_to_end.counted FOLDER python -m SERVICE`` keeps the counts in a file of
``FOLDER`` that is named by the process id: whoever reads it does not disturb the service.
"""

from __future__ import annotations

import mmap
import os
import runpy
import selectors
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

_FORM: Final = "Q"
_BYTES: Final = 8  # of a number


class Calls(NamedTuple):
    """System calls by purpose: each turn of the loop is one, in which it waits for what comes."""

    turns: float
    sends: float
    receives: float
    others: float  # what a socket is set up, watched and closed with

    def since(self, before: Calls) -> Calls:
        """Return how many more these are."""
        return Calls(*(now - then for now, then in zip(self, before, strict=True)))


_TURNS, _SENDS, _RECEIVES, _OTHERS = range(len(Calls._fields))
_OF_SOCKETS: Final = {
    "send": _SENDS,
    "sendmsg": _SENDS,
    "sendto": _SENDS,
    "recv": _RECEIVES,
    "recv_into": _RECEIVES,
    "recvfrom": _RECEIVES,
    **dict.fromkeys(
        (
            *("accept", "bind", "close", "connect", "connect_ex", "getpeername", "getsockname"),
            *("getsockopt", "listen", "setblocking", "setsockopt", "shutdown"),
        ),
        _OTHERS,
    ),
}


def read(folder: Path, pid: int) -> Calls:
    """Return what a process has asked so far."""
    return Calls(*memoryview((folder / str(pid)).read_bytes()).cast(_FORM))


def main(folder: str, service: str) -> None:
    """Run a service, and count."""
    file = Path(folder) / str(os.getpid())
    file.write_bytes(bytes(_BYTES * len(Calls._fields)))
    with file.open("r+b") as opened:
        _count(memoryview(mmap.mmap(opened.fileno(), 0)).cast(_FORM))
    runpy.run_module(service, run_name="__main__", alter_sys=True)


def _count(counts: memoryview) -> None:
    def counted(call: Callable[..., Any], purpose: int) -> Callable[..., Any]:
        def count(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            counts[purpose] += 1
            return call(*arguments, **named)

        return count

    def count(owner: type, calls: Iterable[str], purpose: int) -> None:
        for name in calls:
            setattr(owner, name, counted(getattr(owner, name), purpose))

    class Selector(selectors.EpollSelector):
        """That of the loop."""

    count(Selector, ("select",), _TURNS)
    count(Selector, ("register", "modify", "unregister"), _OTHERS)
    for name, purpose in _OF_SOCKETS.items():
        count(socket.socket, (name,), purpose)
    selectors.DefaultSelector = Selector  # type: ignore[misc, assignment]  # which asyncio makes its loop with


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[-1])
