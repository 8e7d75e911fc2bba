"""Docker Compose, called with the files, ports and services that one call of `make up` decides."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from deploy import stack, summary

FOLDER: Final = stack.ROOT / "deploy"
FILES: Final = ("docker-compose.yml",)
OUTSIDE_FILES: Final = (*FILES, "docker-compose.outside-broker.yml")
SUBSTATIONS_FILE: Final = FOLDER / "prometheus" / "substations.json"
USED: Final = (
    stack.API,
    stack.DISPATCHER,
    stack.RABBITMQ,
    stack.MANAGEMENT,
    stack.RABBITMQ_METRICS,
    stack.PROMETHEUS,
    stack.GRAFANA,
)


@dataclass(frozen=True, slots=True)
class Compose:
    """What to start and where it is published; ``services`` empty means all of them."""

    ports: dict[str, int] = field(default_factory=lambda: dict(stack.PORTS))
    amqp_url: str | None = None
    services: tuple[str, ...] = ()

    @classmethod
    def decide(cls, environment: Mapping[str, str], running: stack.Note | None) -> Self:
        """Decide from the environment, and where that says nothing from what runs already.

        ``SERVICES`` leaves services out by naming those that shall run.
        """
        return cls(
            stack.choose_ports(environment, running),
            environment.get("AMQP_URL") or (running.amqp_url if running else None),
            tuple(environment.get("SERVICES", "").split()),
        )

    def substations(self) -> dict[str, int]:
        """Give each substation's metrics port on this machine."""
        first = self.ports[stack.SUBSTATIONS]
        groups = json.loads(SUBSTATIONS_FILE.read_text())
        names = [group["labels"]["substation"] for group in groups]
        return {name: first + number for number, name in enumerate(names)}

    def listening(self) -> dict[int, str]:
        """Give every port that is published, and how to move each."""
        ports = {self.ports[name]: stack.move_with(name) for name in USED}
        return ports | dict.fromkeys(
            self.substations().values(), stack.move_with(stack.SUBSTATIONS)
        )

    def note(self) -> stack.Note:
        """Give the note to leave of this."""
        return stack.Note("docker", self.ports, self.amqp_url, list(self.listening()))

    def containers(self) -> bool:
        """Say whether any container of ours is there."""
        found = self._call(["ps", "--all", "--quiet"], subprocess.PIPE)
        return found.returncode == 0 and bool(found.stdout.strip())

    def run(self, *arguments: str) -> int:
        """Call Compose; gives its exit status."""
        return self._call(arguments).returncode

    def declare_at_outside_broker(self) -> int:
        """Give an outside broker the topology; gives the exit status, 0 where there is none."""
        if not self.amqp_url:
            return 0
        return self.run(
            "run", "--build", "--rm", "--no-deps", "api", "python3", "-m", "grid", "declare"
        )

    def summary(self) -> str:
        """Say what runs where, and how to log in."""
        without = self.services and "grafana" not in self.services
        rows = summary.lines(
            self.ports,
            self.substations(),
            amqp_url=self.amqp_url,
            no_grafana="left out by SERVICES" if without else None,
        )
        return summary.text(rows, self.ports)

    def _call(
        self, arguments: Iterable[str], output: int | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        names = OUTSIDE_FILES if self.amqp_url else FILES
        files = [option for name in names for option in ("-f", str(FOLDER / name))]
        return subprocess.run(  # noqa: S603
            ["docker", "compose", *files, *arguments],  # noqa: S607 - whichever is in the PATH
            env=self._environment(),
            stdout=output,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        ports = {name: str(port) for name, port in self.ports.items()}
        ports |= {
            f"{one.upper()}_METRICS_PORT": str(port) for one, port in self.substations().items()
        }
        outside = {"AMQP_URL": self.amqp_url} if self.amqp_url else {}
        return {**os.environ, **ports, **outside}
