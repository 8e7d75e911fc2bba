"""Few file descriptors: no service ends over them, and no client takes them all."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from deploy.local.ports import HOST
from grid.descriptors import raise_limit
from tests.broker import VirtualHost
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e

CONNECTIONS = 2_500
FEW = 1_024
NONE_MORE = 3  # standard input, output and error are below: nothing else can be opened
OTHER = "127.0.0.2"
HALF = b"POST /charge HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
PROMPTLY = 5.0  # seconds, on a busy machine; who is kept out waits 20


@contextmanager
def connections(port: int, says: bytes) -> Iterator[list[socket.socket]]:
    """Hold very many connections from one address, each of which has said this much."""
    assert raise_limit().now > CONNECTIONS + FEW, "this test needs more open files: ulimit -Hn"
    with contextlib.ExitStack() as opened:
        held = []
        for _ in range(CONNECTIONS):
            one = opened.enter_context(socket.socket())
            one.settimeout(10)
            with contextlib.suppress(ConnectionError):  # some are closed at once
                one.connect((HOST, port))
                one.sendall(says)
            held.append(one)
        yield held


def health(port: int, source: str) -> tuple[bytes, float]:
    """Ask for the health page from an address; give the status line, and how long it took."""
    began = time.monotonic()
    with socket.socket() as one:
        one.settimeout(10)
        one.bind((source, 0))
        one.connect((HOST, port))
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        line = one.recv(65536).partition(b"\r\n")[0]
    return line, time.monotonic() - began


def test_no_client_takes_all_connections_of_a_service_with_few_descriptors(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Api, dispatcher and substation live on, and answer another address while one holds many."""
    prefix = ["prlimit", f"--nofile=256:{FEW}"]
    with System(vhost, tmp_path, substations=1, environment=QUICK, prefix=prefix) as system:
        for name in system.services:
            port = system.ports[name]
            assert f"limits: {FEW} open files (the soft limit was 256)" in system.log(name)
            for says in (b"", HALF):
                with connections(port, says):
                    line, seconds = health(port, OTHER)
                    assert line == b"HTTP/1.1 200 OK", (name, says)
                    assert seconds < PROMPTLY, (name, says)
                system.until(
                    lambda port=port: health(port, HOST)[0] == b"HTTP/1.1 200 OK",  # type: ignore[misc]
                    f"{name} answers the first address again",
                )
            assert system.processes[name].poll() is None
            assert "an HTTP connection was refused" in system.log(name)
            assert "Traceback" not in system.log(name)
        system.wait_ready()


def test_services_go_on_when_no_file_or_socket_can_be_opened(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Nothing more is accepted, connected to or read; with descriptors again, all of it works."""
    with System(vhost, tmp_path, substations=2, environment=QUICK) as system:
        before = {name: limit(system, name, NONE_MORE) for name in system.services}
        cut_links(system, vhost)
        system.kill("substation2")
        system.start("substation2")  # whose page is to be read over a new connection
        system.write_targets([*system.substations, "another"], {"another": system.ports["api"]})
        for name in ("api", "dispatcher", "substation1"):
            for _ in range(20):
                with contextlib.suppress(OSError), socket.socket() as one:
                    one.settimeout(0.05)
                    one.connect((HOST, system.ports[name]))
            system.until(
                lambda name=name: "Too many open files" in system.log(name),  # type: ignore[misc]
                f"{name} says that it is out of descriptors",
            )
        time.sleep(3)  # in which all of them try, and fail, again and again
        for name in ("api", "dispatcher", "substation1"):
            assert system.processes[name].poll() is None, system.log(name)
            limit(system, name, before[name])
        system.write_targets(system.substations)
        system.wait_ready()
        status, body = system.post({})
        assert status == 202
        system.wait_completed({body["id"]})
        for name in system.services:
            assert system.end(name) == 0, system.log(name)
            assert "ending:" not in system.log(name)


def limit(system: System, name: str, most: int) -> int:
    """Set how many descriptors a running service may use; give how many it might before."""
    pid = system.processes[name].pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))
    return soft


def cut_links(system: System, vhost: VirtualHost) -> None:
    """Have RabbitMQ close every connection, once it has all of them on its list."""
    path = f"/api/vhosts/{vhost.name}/connections"

    def cut() -> bool:
        found = vhost.broker.request("GET", path)
        for each in found:
            with contextlib.suppress(AssertionError):  # it may be closed already
                vhost.broker.request("DELETE", f"/api/connections/{quote(each['name'], safe='')}")
        return bool(found)

    system.until(cut, "RabbitMQ closes the connections")
