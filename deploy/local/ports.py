"""Ports on this machine: which are free, which are taken, and how to ask who answers there."""

from __future__ import annotations

import secrets
import socket
import urllib.request
from typing import Final

HOST: Final = "127.0.0.1"
# for requests to this machine: a proxy of the caller's must not see a password
DIRECTLY: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Below the range from which Linux takes the ports of outgoing connections, so that a free port
# stays free while its server restarts; and so many that two who choose at once hardly meet.
FIRST, LAST = 16_000, 22_000


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port of the loopback address now."""
    with socket.socket() as probe:
        # as servers do: a port in TIME_WAIT is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Return whether something accepts connections on this port of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def free_ports(count: int) -> list[int]:
    """Return so many different ports, all free now."""
    found: set[int] = set()
    while len(found) < count:
        found.update(free_row(1))
    return list(found)


def free_row(count: int, first: int = FIRST, last: int = LAST) -> range:
    """Return so many ports in a row between two, all free now."""
    while True:
        begin = first + secrets.randbelow(last - first - count + 1)
        if all(map(is_free, row := range(begin, begin + count))):
            return row
