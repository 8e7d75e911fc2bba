"""``python3 -m deploy.docker``: up, down, status, logs, clean, with the standard library alone."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from deploy import passwords, stack, summary
from deploy.files import own_folder
from grid.errors import GridError

COMPOSE: Final = ["docker", "compose", "-f", str(stack.ROOT / "deploy" / "docker-compose.yml")]
SUBSTATIONS_FILE: Final = stack.ROOT / "deploy" / "prometheus" / "substations.json"
READY_SECONDS: Final = "180"


def up() -> int:
    """Start everything, or what is missing; comes back when all is healthy."""
    running = stack.Note.read() if _containers() else None
    ports = stack.choose_ports(os.environ, running)
    substations = _substations(ports)
    moved = {ports[name]: stack.move_with(name) for name in stack.PORTS}
    moved |= {port: stack.move_with(stack.SUBSTATIONS) for port in substations.values()}
    stack.check_free(moved, running)
    users = passwords.ensure(stack.SECRETS, for_containers=True)
    passwords.write_definitions(stack.SECRETS, users)
    stack.Note("docker", ports, listening=list(moved)).write()
    environment = _environment(ports, substations)
    command = ["up", "--build", "--wait", "--wait-timeout", READY_SECONDS]
    status = _compose(*command, *os.environ.get("SERVICES", "").split(), environment=environment)
    if status != 0:
        _compose("ps", "--all")
        _compose("logs", "--tail", "15")
        if running is None:
            summary.say("not all became healthy: stopping everything again")
            down()
        return status
    summary.say("All of it runs, in containers:\n")
    summary.say(summary.text(summary.lines(ports, substations), ports))
    return 0


def down() -> int:
    """Stop and remove the containers; the data stay in their volumes."""
    status = _compose("down", "--remove-orphans") if _containers() else 0
    stack.NOTE.unlink(missing_ok=True)
    return status


def status() -> int:
    """Show the containers; 1 where there are none."""
    return _compose("ps", "--all") if _containers() else 1


def logs() -> int:
    """Follow what the containers write."""
    return _compose("logs", "--follow", "--tail", "50")


def clean() -> int:
    """Remove containers, data and our image."""
    own_folder(stack.SECRETS)  # the compose file names files in there
    return _compose("down", "--volumes", "--remove-orphans", "--rmi", "local")


def running() -> int:
    """Say by the exit status whether any container is there."""
    return 0 if _containers() else 1


COMMANDS: Final[Mapping[str, Callable[[], int]]] = {
    each.__name__: each for each in (up, down, status, logs, clean, running)
}


def _substations(ports: Mapping[str, int]) -> dict[str, int]:
    first = ports[stack.SUBSTATIONS]
    groups = json.loads(SUBSTATIONS_FILE.read_text())
    names = [group["labels"]["substation"] for group in groups]
    return {name: first + number for number, name in enumerate(names)}


def _environment(ports: Mapping[str, int], substations: Mapping[str, int]) -> dict[str, str]:
    moved = {f"{name.upper()}_METRICS_PORT": str(port) for name, port in substations.items()}
    return {**os.environ, **{name: str(port) for name, port in ports.items()}, **moved}


def _containers() -> bool:
    found = subprocess.run([*COMPOSE, "ps", "--all", "--quiet"], stdout=subprocess.PIPE, check=True)  # noqa: S603
    return bool(found.stdout.strip())


def _compose(*arguments: str, environment: Mapping[str, str] = os.environ) -> int:
    return subprocess.run([*COMPOSE, *arguments], env=environment, check=False).returncode  # noqa: S603


def main() -> int:
    """Run the one command given; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m deploy.docker", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    try:
        return COMMANDS[parser.parse_args().command]()
    except GridError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
