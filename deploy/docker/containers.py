"""The state of the containers that Compose started, as Docker reports it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grid.errors import GridError

Call = Callable[[Sequence[str], int], "subprocess.CompletedProcess[bytes]"]

RESTARTS: Final = 3  # a container that ends so often will not run the next time either
FOLDER_FORMAT: Final = '{{index .Config.Labels "com.docker.compose.project.working_dir"}}'
FORMAT: Final = (
    '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{.RestartCount}} '
    "{{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}} {{.State.Pid}}"
)


@dataclass(frozen=True, slots=True)
class Container:
    """One container: Docker's status and health of it, how often it was restarted, its process."""

    status: str
    restarts: int
    health: str
    pid: int = 0

    @property
    def healthy(self) -> bool:
        """Return whether it runs and its health check passes."""
        return self.status == "running" and self.health == "healthy"

    @property
    def ended(self) -> bool:
        """Return whether it has ended for good, as far as can be known."""
        again_and_again = self.status == "restarting" and self.restarts >= RESTARTS
        return again_and_again or self.status in {"exited", "dead"}


ABSENT: Final = Container("absent", 0, "-")


def ids(compose: Call) -> list[str]:
    """Return the id of every container of ours; ``compose`` calls Compose."""
    found = compose(["ps", "--all", "--quiet"], subprocess.PIPE)
    return found.stdout.decode(errors="replace").split() if found.returncode == 0 else []


def existing(compose: Call) -> list[str]:
    """Return the id of every container of ours.

    Raises:
        GridError: Docker does not say.
    """
    found = compose(["ps", "--all", "--quiet"], subprocess.PIPE)
    if found.returncode != 0:
        raise GridError("Docker does not say which containers there are: see above")
    return found.stdout.decode(errors="replace").split()


def other_folder(ids: Sequence[str], folder: Path) -> str | None:
    """Return the folder that containers were started from, if that is another one.

    One that no longer exists is taken as this folder's former name: nobody else could stop them.
    """
    if not ids:
        return None
    for name in {*_inspect(FOLDER_FORMAT, ids).splitlines()}:
        if name and Path(name).exists() and not Path(name).samefile(folder):
            return name
    return None


def look(compose: Call) -> dict[str, Container]:
    """Return every container by its service's name."""
    found = ids(compose)
    if not found:
        return {}
    return parse(_inspect(FORMAT, found))


def _inspect(form: str, ids: Sequence[str]) -> str:
    done = subprocess.run(  # noqa: S603
        ["docker", "inspect", "--format", form, *ids],  # noqa: S607 - whichever is in the PATH
        stdout=subprocess.PIPE,
        check=False,
    )
    return done.stdout.decode(errors="replace")


def parse(text: str) -> dict[str, Container]:
    """Return the containers in lines of ``FORMAT``."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return {
        name: Container(status, int(restarts), health, *map(int, pid))
        for name, status, restarts, health, *pid in rows
    }
