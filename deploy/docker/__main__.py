"""``python3 -m deploy.docker``: up, down, status, restart, crash, logs, clean.

It uses the standard library alone, so that it works without .venv.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from deploy import commands, stack, summary
from deploy import environment as env
from deploy.docker.compose import USED, Compose, used_as_cluster
from deploy.files import own_folder
from grid.errors import GridError


def up() -> int:
    """Start everything, or what is missing, and wait until all is ready."""
    running = stack.StackState.read() if Compose().containers() else None
    wanted = Compose.decide(os.environ)
    stack.check_free(wanted.listening(), running)
    if running is None:
        return commands.up(wanted, None, down)
    commands.say_no_longer_set(os.environ, wanted.stack_state(), running)
    return commands.up(wanted, partial(Compose.decide, running.variables(), build=False), down)


def down() -> int:
    """Stop and remove the containers; the data stays in the volumes."""
    compose = Compose()
    status = compose.run("down", "--remove-orphans") if compose.containers() else 0
    stack.STATE_FILE.unlink(missing_ok=True)
    return status


def status() -> int:
    """Show the containers and what goes on; return 1 if something does not work."""
    stack_state = stack.StackState.read()
    if stack_state is None or not (compose := Compose.decide(stack_state.variables())).containers():
        return 1
    result = commands.show_status(compose.programs(), compose.urls(), stack_state.settings)
    summary.say("\n" + compose.summary())
    return result


def restart() -> int:
    """Restart the services that SERVICE names; return 1 if not all is ready afterwards.

    Raises:
        GridError: Compose does not do it.
    """
    compose = _running()
    names = commands.services_to_restart(os.environ, compose.services)
    if compose.run("restart", *names) != 0:
        raise GridError(f"Compose could not restart {', '.join(names)}: see above")
    return commands.wait_again(compose)


def crash() -> int:
    """Kill the containers that SERVICE names, and leave them ended until a restart.

    Raises:
        GridError: Compose does not do it.
    """
    compose = _running()
    names = commands.services_to_restart(os.environ, compose.services)
    if compose.run("kill", *names) != 0:
        raise GridError(f"Compose could not kill {', '.join(names)}: see above")
    return 0


def logs() -> int:
    """Show what the containers write, or those that SERVICE names, from LEVEL on."""
    compose = _running()
    names = commands.services_named(os.environ, compose.services)
    follow = commands.follows(os.environ)
    return commands.show_logs(os.environ, lambda lines: compose.lines(names, lines, follow=follow))


def _running() -> Compose:
    stack_state = stack.StackState.read()
    return Compose.decide(stack_state.variables() if stack_state else {})


def clean() -> int:
    """Remove the containers and their data.

    Raises:
        GridError: they are of another folder, or Docker does not answer.
    """
    own_folder(stack.SECRETS)  # the compose file names files in there
    Compose().containers()
    settings = {env.CLUSTER: "1"} if used_as_cluster() else {}
    for path in (stack.STATE_FILE, USED):
        path.unlink(missing_ok=True)
    return Compose(settings=settings).run("down", "--volumes", "--remove-orphans")


def running() -> int:
    """Return the exit status: whether any container exists."""
    return 0 if Compose().containers() else 1


COMMANDS: Final[Mapping[str, Callable[[], int]]] = {
    each.__name__: each for each in (up, down, status, restart, crash, logs, clean, running)
}


if __name__ == "__main__":
    sys.exit(commands.main("docker", COMMANDS))
