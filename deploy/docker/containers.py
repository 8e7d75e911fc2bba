"""What Docker says of the containers that Compose started."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

Call = Callable[[Sequence[str], int], "subprocess.CompletedProcess[bytes]"]

RESTARTS: Final = 3  # a container that ends so often will not run the next time either
FORMAT: Final = (
    '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{.RestartCount}} '
    "{{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}}"
)


@dataclass(frozen=True, slots=True)
class Container:
    """One container: Docker's words for its status and its health, and how often it ended."""

    status: str
    restarts: int
    health: str

    @property
    def healthy(self) -> bool:
        """Whether it runs and its health check passes."""
        return self.status == "running" and self.health == "healthy"

    @property
    def ended(self) -> bool:
        """Whether it will not run, as far as can be told."""
        again_and_again = self.status == "restarting" and self.restarts >= RESTARTS
        return again_and_again or self.status in {"exited", "dead"}


def ids(compose: Call) -> list[str]:
    """Give the id of every container of ours; ``compose`` calls Compose."""
    found = compose(["ps", "--all", "--quiet"], subprocess.PIPE)
    return found.stdout.decode().split() if found.returncode == 0 else []


def look(compose: Call) -> dict[str, Container]:
    """Give every container by its service's name."""
    found = ids(compose)
    if not found:
        return {}
    done = subprocess.run(  # noqa: S603
        ["docker", "inspect", "--format", FORMAT, *found],  # noqa: S607
        stdout=subprocess.PIPE,
        check=False,
    )
    return parse(done.stdout.decode())


def parse(text: str) -> dict[str, Container]:
    """Read lines of ``FORMAT``."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return {
        name: Container(status, int(restarts), health) for name, status, restarts, health in rows
    }
