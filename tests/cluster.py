"""Three RabbitMQ nodes on one machine, in one cluster, with the project's users and topology."""

from __future__ import annotations

import secrets
import shutil
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from deploy.files import own_folder, write
from deploy.local.ports import answers
from deploy.local.rabbitmq import Node, NodePorts
from deploy.rabbitmq.definitions import VHOST
from grid import topology
from tests.broker import START_SECONDS, Broker, VirtualHost
from tests.ports import free_ports

NAMES: Final = tuple(f"grid{number}@localhost" for number in (1, 2, 3))
EPMD_SECONDS: Final = 10.0
WHOLE_SECONDS: Final = 60.0
# RabbitMQ 3.10 ends if, while it boots, another node declares a quorum queue, which has no leader
# yet, or adds a user of the definitions
BOOT_RACES: Final = ("{amqqueue,qnode,", "{user_already_exists,")
CLUSTER_CONFIG: Final = Path(__file__).parents[1] / "deploy" / "rabbitmq" / "cluster.conf"


class Cluster:
    """Three nodes that share a port mapper of their own. Kill and start each, then close it."""

    def __init__(self, folder: Path) -> None:
        first = Broker(folder / "1", _node(folder / "1", NAMES[0], *free_ports(5)))
        epmd = first.node.ports.epmd
        others = [
            Broker(at, _node(at, name, *free_ports(4), epmd), first.passwords)
            for at, name in ((folder / "2", NAMES[1]), (folder / "3", NAMES[2]))
        ]
        self.nodes = dict(zip(NAMES, (first, *others), strict=True))
        self._ways = 0
        cookie = secrets.token_hex(16)
        for broker in self.nodes.values():
            _write_files(broker.node.folder, cookie)

    def start(self) -> None:
        """Start all nodes and wait until every queue has a member on each of them.

        If a queue never gets a member on one of them, as happens when RabbitMQ 3.10 boots on a busy
        machine, delete the data of all nodes and start them once more.
        """
        self._start_nodes()
        if not _within(WHOLE_SECONDS, self._is_formed):
            warnings.warn(f"started once more; members online: {self._online()}", stacklevel=2)
            self.close()
            for each in self.nodes.values():
                shutil.rmtree(each.node.folder / "data")
                each.log_file.unlink()
            self._start_nodes()
        assert _within(START_SECONDS, self._is_formed), f"members online: {self._online()}"

    def _start_nodes(self) -> None:
        first, *others = self.nodes.values()
        first.begin()
        _until(lambda: answers(first.node.ports.epmd), "the port mapper answers", EPMD_SECONDS)
        for each in others:
            each.begin()
        for each in self.nodes.values():
            _wait(each)

    def close(self) -> None:
        """End every process."""
        for each in reversed(self.nodes.values()):
            each.close()

    def vhost(self) -> VirtualHost:
        """Return the virtual host ``/``, as the first node sees it."""
        return VirtualHost(self.nodes[NAMES[0]], VHOST)

    def urls(self, user: str = "admin") -> list[str]:
        """Return the addresses of all nodes for a user."""
        return [each.url(user) for each in self.nodes.values()]

    def way(self, url: str) -> str:
        """Return the addresses of all nodes, as in ``AMQP_URL``, for the address of the first one.

        Each call begins the list with another node, so that the services spread.
        """
        ports = deque(each.node.ports.amqp for each in self.nodes.values())
        first = ports[0]
        ports.rotate(self._ways)
        self._ways += 1
        return ",".join(url.replace(f":{first}/", f":{port}/") for port in ports)

    def leader(self, queue: str) -> str:
        """Return the name of the node that leads a queue, as one that runs says."""
        return str(self._queue(queue).get("leader"))

    def wait_whole(self, queue: str) -> None:
        """Wait until every member of a queue is online."""
        _until(lambda: self._is_whole(queue), f"{queue} is whole")

    def _is_formed(self) -> bool:
        return all(self._is_whole(queue.name) for queue in topology.QUEUES)

    def _online(self) -> dict[str, list[str]]:
        names = [queue.name for queue in topology.QUEUES]
        return {name: self._queue(name).get("online", []) for name in names}

    def _is_whole(self, queue: str) -> bool:
        return len(self._queue(queue).get("online", ())) == len(NAMES)

    def _queue(self, name: str) -> dict[str, Any]:
        """Return a queue's data from the first node that answers; nothing if none does."""
        for each in self.nodes.values():
            with suppress(AssertionError, OSError):  # it does not run, or not yet
                return VirtualHost(each, VHOST).queue(name)
        return {}


def _wait(broker: Broker) -> None:
    """Wait for a node; start one again that met a boot race, as its container would be."""
    for _ in BOOT_RACES:
        try:
            broker.wait()
        except AssertionError:
            log = broker.log_file.read_text(errors="replace")
            if not any(race in log for race in BOOT_RACES):
                raise
            broker.begin()
        else:
            return
    broker.wait()


def _node(folder: Path, name: str, *ports: int) -> Node:
    return Node(folder, NodePorts(*ports), name)


def _write_files(folder: Path, cookie: str) -> None:
    peers = "".join(
        f"cluster_formation.classic_config.nodes.{number} = {name}\n"
        for number, name in enumerate(NAMES, 1)
    )
    conf = own_folder(folder) / "conf.d"
    write(own_folder(conf) / "cluster.conf", CLUSTER_CONFIG.read_text() + peers)
    write(folder / ".erlang.cookie", cookie, mode=0o400)


def _until(holds: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    assert _within(seconds, holds), f"not within {seconds:g} s: {what}"


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
