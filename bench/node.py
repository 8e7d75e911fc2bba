"""The benchmark's own RabbitMQ node, with the project's users, permissions and topology."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from bench.management import Management
from bench.processes import NotMeasured, Program, program
from deploy.files import write
from deploy.local.ports import HOST, answers, free_ports
from deploy.local.rabbitmq import PLUGINS, Node, NodePorts
from deploy.rabbitmq.definitions import render, render_topology
from deploy.rabbitmq.users import permissions
from grid import topology

SUBSTATIONS: Final = ("substation1", "substation2", "substation3")
START_SECONDS: Final = 120.0
ARGUMENTS: Final = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"


@dataclass(frozen=True, slots=True)
class Change:
    """What a node is told besides the settings of every node of ours.

    Lines of ``rabbitmq.conf``, the whole of ``advanced.config``, arguments of the Erlang VM.
    """

    config: str = ""
    advanced: str = "[]."
    arguments: str = ""


UNCHANGED: Final = Change()


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """A virtual host that one measurement has to itself."""

    broker: RabbitMQ
    name: str

    def url(self, user: str = "admin") -> str:
        """Return the AMQP address for one of the project's users, password included."""
        return (
            f"amqp://{user}:{self.broker.passwords[user]}@{HOST}:{self.broker.node.ports.amqp}"
            f"/{quote(self.name, safe='')}"
        )


@dataclass(frozen=True, slots=True)
class RabbitMQ:
    """A node that runs."""

    node: Node
    passwords: dict[str, str]
    server: Program

    @property
    def pid(self) -> int:
        """Return the process id of the Erlang VM."""
        return self.server.pid

    def version(self) -> str:
        """Return RabbitMQ's version and Erlang's."""
        found = self.request("GET", "/api/overview")
        return f"{found['rabbitmq_version']}, Erlang {found['erlang_version']}"

    @property
    def management(self) -> Management:
        """Return its management API."""
        return Management(self.node.ports.management, self.passwords["admin"])

    def request(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Call the management API as admin; return its JSON. Raise ``NotMeasured`` on an error."""
        return self.management.request(method, path, body)

    @contextmanager
    def vhost(self) -> Iterator[VirtualHost]:
        """Make a virtual host with all exchanges and queues; drop it after the context."""
        name = f"bench-{secrets.token_hex(4)}"
        self.management.make_vhost(name, SUBSTATIONS)
        try:
            self.management.declare(name, _with_substations(render_topology()))
            yield VirtualHost(self, name)
        finally:
            self.management.drop_vhost(name)


def _with_substations(definitions: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    queues = [topology.substation_queue(each) for each in SUBSTATIONS]
    return {
        **definitions,
        "queues": [
            *definitions["queues"],
            *(
                {
                    "name": each.name,
                    "durable": True,
                    "auto_delete": False,
                    "arguments": dict(each.arguments),
                }
                for each in queues
            ),
        ],
        "bindings": [
            *definitions["bindings"],
            *(
                {
                    "source": each.exchange,
                    "destination": each.name,
                    "destination_type": "queue",
                    "routing_key": each.key,
                    "arguments": {},
                }
                for each in queues
            ),
        ],
    }


def environment(node: Node, change: Change) -> dict[str, str]:
    """Return the variables of a changed node; later arguments of Erlang's take precedence."""
    variables = node.environment()
    return {**variables, ARGUMENTS: f"{variables[ARGUMENTS]} {change.arguments}"}


@contextmanager
def rabbitmq(folder: Path, change: Change = UNCHANGED) -> Iterator[RabbitMQ]:
    """Run a node of its own in a folder, on free ports, while the context lasts."""
    passwords = {user: secrets.token_urlsafe(12) for user in permissions(SUBSTATIONS)}
    ports = NodePorts(*free_ports(5))
    node = Node(folder, ports, name="bench@localhost", plugins=(*PLUGINS, "rabbitmq_shovel"))
    node.prepare(render(passwords, SUBSTATIONS))
    write(folder / "conf.d" / "90-change.conf", f"{change.config}\n")
    write(folder / "advanced.config", f"{change.advanced}\n")
    variables = environment(node, change)
    with (
        program("epmd", node.epmd_command(), variables, folder, working_folder=folder),
        program(
            "rabbitmq", node.server_command(), variables, folder, working_folder=folder
        ) as server,
    ):
        deadline = time.monotonic() + START_SECONDS
        while not (answers(ports.amqp) and answers(ports.management)):
            server.check()
            if time.monotonic() > deadline:
                raise NotMeasured(f"RabbitMQ did not start:\n{server.log_end()}")
            time.sleep(0.05)
        yield RabbitMQ(node, passwords, server)
