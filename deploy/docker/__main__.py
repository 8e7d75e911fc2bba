"""``python3 -m deploy.docker``: up, down, status, logs, clean, with the standard library alone."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

from deploy import passwords, stack, summary
from deploy.docker.compose import Compose
from deploy.files import own_folder
from grid.errors import GridError

READY_SECONDS: Final = "180"
USED: Final = stack.STATE / "docker"  # says to `make clean` that there may be volumes


def up() -> int:
    """Start everything, or what is missing; comes back when all is healthy."""
    running = stack.Note.read() if Compose().containers() else None
    compose = Compose.decide(os.environ, running)
    stack.check_free(compose.listening(), running)
    users = passwords.ensure(stack.SECRETS, for_containers=True)
    passwords.write_definitions(stack.SECRETS, users)
    compose.note().write()
    USED.touch()
    status = compose.declare_at_outside_broker() or compose.run(
        "up", "--build", "--wait", "--wait-timeout", READY_SECONDS, *compose.services
    )
    if status != 0:
        compose.run("ps", "--all")
        compose.run("logs", "--tail", "15")
        _undo(running)
        return status
    summary.say("All of it runs, in containers:\n")
    summary.say(compose.summary())
    return 0


def down() -> int:
    """Stop and remove the containers; the data stay in their volumes."""
    compose = Compose()
    status = compose.run("down", "--remove-orphans") if compose.containers() else 0
    stack.NOTE.unlink(missing_ok=True)
    return status


def status() -> int:
    """Show the containers; 1 where there are none."""
    note = stack.Note.read()
    compose = Compose.decide(os.environ, note)
    if note is None or not compose.containers():
        return 1
    result = compose.run("ps", "--all")
    summary.say("\n" + compose.summary())
    return result


def logs() -> int:
    """Follow what the containers write."""
    return Compose().run("logs", "--follow", "--tail", "20")


def clean() -> int:
    """Remove the containers and their data."""
    own_folder(stack.SECRETS)  # the compose file names files in there
    for path in (stack.NOTE, USED):
        path.unlink(missing_ok=True)
    return Compose().run("down", "--volumes", "--remove-orphans")


def running() -> int:
    """Say by the exit status whether any container is there."""
    return 0 if Compose().containers() else 1


COMMANDS: Final[Mapping[str, Callable[[], int]]] = {
    each.__name__: each for each in (up, down, status, logs, clean, running)
}


def _undo(running: stack.Note | None) -> None:
    """Leave nothing half started, but do not stop what ran before."""
    if running is not None:
        running.write()
        summary.say("\nNot all became healthy. What ran before still runs.")
        return
    summary.say("\nNot all became healthy: stopping everything again.")
    down()


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
