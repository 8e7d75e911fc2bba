"""What an operator, or an accident, does to the broker itself."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

from deploy.rabbitmq.definitions import render_topology
from deploy.rabbitmq.disk import FREE_LIMIT
from grid import topology
from tests.broker import Broker, VirtualHost
from tests.ports import free_ports

CTL: Final = "/usr/lib/rabbitmq/bin/rabbitmqctl"
CTL_SECONDS: Final = 60
LIMIT_NAME: Final = "limit"


@contextmanager
def memory_alarm(broker: Broker) -> Iterator[None]:
    """Have the broker believe that its memory is short while the context lasts."""
    _ctl(broker, "set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        yield
    finally:
        _ctl(broker, "set_vm_memory_high_watermark", "0.4")


@contextmanager
def disk_alarm(broker: Broker) -> Iterator[None]:
    """Have the broker believe that its disk is full while the context lasts."""
    _ctl(broker, "set_disk_free_limit", "1000000GB")
    try:
        yield
    finally:
        _ctl(broker, "set_disk_free_limit", f"{FREE_LIMIT}")


@contextmanager
def requests_limited(vhost: VirtualHost, most: int) -> Iterator[None]:
    """Let ``charge.requests`` hold no more than ``most`` while the context lasts."""
    path = f"/api/policies/{quote(vhost.name)}/{LIMIT_NAME}"
    limit = {
        "pattern": f"^{topology.REQUESTS}$",
        "apply-to": "queues",
        "definition": {"max-length": most},
    }
    vhost.broker.request("PUT", path, limit)
    try:
        yield
    finally:
        vhost.broker.request("DELETE", path)


def delete_queue(vhost: VirtualHost, queue: str) -> None:
    """Delete a queue with all it holds, whoever uses it."""
    vhost.broker.request("DELETE", f"/api/queues/{quote(vhost.name)}/{quote(queue)}")


def purge_queue(vhost: VirtualHost, queue: str) -> None:
    """Remove what is ready in a queue, without a word to anybody."""
    vhost.broker.request("DELETE", f"/api/queues/{quote(vhost.name)}/{quote(queue)}/contents")


def declare_topology(vhost: VirtualHost) -> None:
    """Make what is missing of the queues and exchanges, as `python -m grid declare` does."""
    vhost.broker.request("POST", f"/api/definitions/{quote(vhost.name)}", render_topology())


@contextmanager
def held(broker: Broker) -> Iterator[None]:
    """Hold the broker's process while the context lasts: it keeps all it has, and does nothing."""
    broker.tell(signal.SIGSTOP)
    try:
        yield
    finally:
        broker.tell(signal.SIGCONT)


def evaluate(broker: Broker, expression: str) -> None:
    """Have the node's Erlang machine evaluate an expression."""
    _ctl(broker, "eval", expression)


def _ctl(broker: Broker, *command: str) -> None:
    (port,) = free_ports(1)
    environment = {
        "PATH": os.environ["PATH"],
        **broker.node.environment(),
        "RABBITMQ_CTL_DIST_PORT_MIN": str(port),
        "RABBITMQ_CTL_DIST_PORT_MAX": str(port),
    }
    done = subprocess.run(  # noqa: S603
        [CTL, *command],
        env=environment,
        cwd=broker.node.folder,
        capture_output=True,
        text=True,
        timeout=CTL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"rabbitmqctl {' '.join(command)}: {done.stdout}{done.stderr}"
