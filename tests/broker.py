"""A real RabbitMQ node for tests: private, on free ports, with the project's users and topology."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.management import Management
from bench.processes import NotMeasured
from deploy.local.ports import HOST, answers
from deploy.local.rabbitmq import Node, NodePorts
from deploy.rabbitmq.definitions import render, render_topology
from deploy.rabbitmq.users import permissions
from tests.ports import free_ports

SUBSTATIONS = ("substation1", "substation2", "substation3", "another")  # that have a user
START_SECONDS = 120.0  # three at once, on a busy machine
STOP_SECONDS = 30.0
# RabbitMQ 3.10 writes its register of quorum queues to disk a moment after declaring one: a node
# killed within it comes back with a queue that finds no leader.
DECLARED_FOR_GOOD_SECONDS = 3.0
ONE_SCHEDULER = "+S 1:1"  # for one of many nodes that share the processors
ARGUMENTS = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"
MEMORY = Path("/dev/shm")  # noqa: S108  # a file system in memory: no write there waits for a disk
MEMORY_FREE_BYTES = 4_000_000_000


def fast_folder() -> Path | None:
    """Return where a node's data are quickest; None for the usual folder of temporary files."""
    try:
        has_room = shutil.disk_usage(MEMORY).free >= MEMORY_FREE_BYTES
    except OSError:
        return None
    return MEMORY if has_room and os.access(MEMORY, os.W_OK) else None


def new_passwords() -> dict[str, str]:
    """Make a password for each of the project's users."""
    return {user: secrets.token_urlsafe(12) for user in permissions(SUBSTATIONS)}


class Broker:
    """One node and its port mapper. Start it, and stop or kill it as often as a test likes.

    ``node`` and ``passwords`` are its own unless it is given some, as a member of a cluster is;
    ``arguments`` are further ones for Erlang.
    All methods block; from a coroutine use ``asyncio.to_thread``.
    """

    def __init__(
        self,
        folder: Path,
        node: Node | None = None,
        passwords: dict[str, str] | None = None,
        *,
        arguments: str = "",
    ) -> None:
        self._arguments = arguments
        self.passwords = passwords or new_passwords()
        self.node = node or Node(folder, NodePorts(*free_ports(5)))
        self.log_file = folder / "output.log"
        self._declared = 0.0
        self._starts = 0
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def management_url(self) -> str:
        """Return the address of the management API and UI, without a slash at the end."""
        return f"http://{HOST}:{self.node.ports.management}"

    @property
    def prometheus_url(self) -> str:
        """Return the address of the node's own metrics, without a path."""
        return f"http://{HOST}:{self.node.ports.prometheus}"

    def url(self, user: str = "admin", vhost: str = "/") -> str:
        """Return the AMQP address for one of the project's users, password included."""
        return (
            f"amqp://{user}:{self.passwords[user]}@{HOST}:{self.node.ports.amqp}"
            f"/{quote(vhost, safe='')}"
        )

    def start(self) -> None:
        """Start the node and wait until it accepts clients; its data are kept from before.

        Do nothing while it runs.
        """
        if self._server is not None and self._server.poll() is None:
            return
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start the node, and do not wait for it."""
        self.node.prepare(render(self.passwords, SUBSTATIONS))
        if self._epmd is None and not answers(self.node.ports.epmd):  # a member's may run already
            self._epmd = self._spawn(self.node.epmd_command())
        self._starts += 1
        self._server = self._spawn(self.node.server_command())

    def wait(self) -> None:
        """Wait until the node that was started accepts clients."""
        assert self._server is not None, "the node was not started"
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.node.ports.amqp):
            assert self._server.poll() is None, f"RabbitMQ ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"RabbitMQ did not start:\n{self.log()}"
            time.sleep(0.05)
        self.declared()

    def declared(self) -> None:
        """Note that quorum queues were just declared: a kill waits until they are durable."""
        self._declared = time.monotonic()

    def stop(self) -> None:
        """Stop the server gracefully."""
        self._end_server(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once, as `kill -9` does, though not right after queues were declared.

        A test that declares quorum queues itself says so with ``declared``.
        """
        time.sleep(max(0.0, self._declared + DECLARED_FOR_GOOD_SECONDS - time.monotonic()))
        self._end_server(signal.SIGKILL)

    def tell(self, what: signal.Signals) -> None:
        """Send the server a signal, and go on."""
        assert self._server is not None, "the node does not run"
        self._server.send_signal(what)

    def restart(self) -> None:
        """Stop gracefully, then start again on the same ports with the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End everything: nothing of this node runs afterwards, and nobody needs its data."""
        self._end_server(signal.SIGKILL)
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait(STOP_SECONDS)
            self._epmd = None

    def log(self) -> str:
        """Return the end of the node's output, for a failure's message."""
        return self.log_file.read_text(errors="replace")[-4000:]

    def request(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Call the management API as admin, e.g. ``("GET", "/api/queues/%2F")``; return its JSON.

        Raise ``AssertionError`` for any answer that is not a success.
        """
        try:
            return self._management.request(method, path, body)
        except NotMeasured as refused:
            raise AssertionError(str(refused)) from refused

    @contextmanager
    def vhost(self, *, topology: bool = True) -> Iterator[VirtualHost]:
        """Make a virtual host of its own for one test, with every user's permissions; then drop it.

        ``topology`` says whether exchanges, queues and bindings are there from the start. If the
        node was started again meanwhile, the virtual host is not dropped: a node that drops queues
        which it is still recovering may end up unable to dead-letter, or to declare any that do.
        """
        name = f"test-{secrets.token_hex(4)}"
        starts = self._starts
        self._management.make_vhost(name, SUBSTATIONS)
        try:
            if topology:
                self._management.declare(name, render_topology())
                self.declared()
            yield VirtualHost(self, name)
        finally:
            if self._server is not None and self._starts == starts:
                self._management.drop_vhost(name)

    @property
    def _management(self) -> Management:
        return Management(self.node.ports.management, self.passwords["admin"])

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        variables = {"PATH": os.environ["PATH"], **self.node.environment()}
        variables[ARGUMENTS] += f" {self._arguments}"
        with self.log_file.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                command,
                env=variables,
                cwd=self.node.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches pytest, which then ends the node itself
            )

    def _end_server(self, how: signal.Signals) -> None:
        if self._server is None:
            return
        self._server.send_signal(how)
        self._server.wait(STOP_SECONDS)
        self._server = None


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """A virtual host that one test has to itself."""

    broker: Broker
    name: str

    def url(self, user: str = "admin") -> str:
        """Return the AMQP address for one of the project's users, password included."""
        return self.broker.url(user, self.name)

    def queue(self, name: str) -> dict[str, Any]:
        """Return the management API's data of a queue; its counts are up to 5 s old."""
        path = f"/api/queues/{quote(self.name, safe='')}/{quote(name)}"
        found: dict[str, Any] = self.broker.request("GET", path)
        return found

    def queues(self) -> list[str]:
        """Return the names of the queues."""
        return [
            q["name"]
            for q in self.broker.request("GET", f"/api/queues/{quote(self.name, safe='')}")
        ]
