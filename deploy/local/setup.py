"""What one call of `make up` decides, and the files that follow from it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from deploy import passwords, stack, summary
from deploy.files import own_folder, write
from deploy.local import prometheus, substations
from deploy.local.ports import free_ports
from deploy.local.programs import Layout, Program, grafana_server
from deploy.local.rabbitmq import Node, NodePorts
from deploy.rabbitmq import definitions
from grid.errors import GridError

SUBSTATIONS_FILE: Final = stack.ROOT / "deploy" / "local" / "substations.json"
MOVED_SUBSTATIONS_FILE: Final = stack.STATE / "substations.json"
ERLANG_PORTS: Final = ("RABBITMQ_DIST_PORT", "ERL_EPMD_PORT")  # any that are free
DECLARE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Setup:
    """The layout, its programs, and the file that lists the substations as the user wrote it."""

    layout: Layout
    programs: list[Program]
    source: Path

    @classmethod
    def decide(cls, environment: Mapping[str, str], running: stack.Note | None) -> Self:
        """Decide from the environment, and where that says nothing from what runs already.

        Raises ``ConfigurationError`` for a wrong variable, a missing program, a taken port.
        """
        ports = stack.choose_ports(environment, running)
        if running is None:
            ports |= dict(zip(ERLANG_PORTS, free_ports(2), strict=True))
        source = Path(
            environment.get("SUBSTATIONS_FILE")
            or (running and running.substations_file)
            or SUBSTATIONS_FILE
        ).resolve()
        amqp_url = environment.get("AMQP_URL") or (running.amqp_url if running else None)
        own, file = substations.read(source), source
        if (first := ports[stack.SUBSTATIONS]) != stack.PORTS[stack.SUBSTATIONS]:
            own = {name: first + number for number, name in enumerate(own)}
            file = MOVED_SUBSTATIONS_FILE
        node = None if amqp_url else Node(stack.STATE / "rabbitmq", _node_ports(ports))
        layout = Layout(ports, own, file, node, amqp_url, environment)
        setup = cls(layout, layout.programs(), source)
        stack.check_free(setup.listening(), running)
        return setup

    def listening(self) -> dict[int, str]:
        """Give every port that the stack listens on, and how to move each."""
        used = [stack.API, stack.DISPATCHER, stack.PROMETHEUS]
        if self.layout.node:
            used += [stack.RABBITMQ, stack.MANAGEMENT, stack.RABBITMQ_METRICS]
        if grafana_server():
            used.append(stack.GRAFANA)
        ports = {self.layout.ports[name]: stack.move_with(name) for name in used}
        hint = stack.move_with(stack.SUBSTATIONS)
        return ports | dict.fromkeys(self.layout.substations.values(), hint)

    def note(self) -> stack.Note:
        """Give the note to leave of this."""
        return stack.Note(
            mode="local",
            ports=dict(self.layout.ports),
            amqp_url=self.layout.amqp_url,
            listening=list(self.listening()),
            substations_file=str(self.source),
        )

    def write_files(self) -> None:
        """Write everything that the programs read."""
        own_folder(stack.STATE)
        users = passwords.ensure(stack.SECRETS)
        if self.layout.node:
            self.layout.node.prepare(definitions.render(users))
        if self.layout.substations_file != self.source:
            first = self.layout.ports[stack.SUBSTATIONS]
            write(self.layout.substations_file, substations.moved(self.source, first))
        text = prometheus.render(
            self.layout.ports, self.layout.substations_file, own_broker=bool(self.layout.node)
        )
        write(stack.STATE / "prometheus.yml", text)

    def declare_at_outside_broker(self) -> None:
        """Give an outside broker the topology; our own has it from its definitions.

        Raises ``GridError`` where that does not succeed.
        """
        if not self.layout.amqp_url:
            return
        done = subprocess.run(
            [sys.executable, "-m", "grid", "declare"],
            env={**os.environ, "AMQP_URL": self.layout.amqp_url},
            cwd=stack.ROOT,
            check=False,
            timeout=DECLARE_SECONDS,
        )
        if done.returncode != 0:
            raise GridError("the broker of AMQP_URL did not take the declarations: see above")

    def summary(self) -> str:
        """Say what runs where, and how to log in."""
        rows = summary.lines(
            self.layout.ports,
            self.layout.substations,
            amqp_url=self.layout.amqp_url,
            no_grafana=None if grafana_server() else summary.GRAFANA_MISSING,
        )
        return summary.text(rows, self.layout.ports)


def _node_ports(ports: Mapping[str, int]) -> NodePorts:
    names = (stack.RABBITMQ, stack.MANAGEMENT, stack.RABBITMQ_METRICS, *ERLANG_PORTS)
    return NodePorts(*(ports[name] for name in names))
