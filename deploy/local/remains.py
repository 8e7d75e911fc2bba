"""What runs of this stack without its supervisor, and stopping it.

``python3 -m deploy.local.remains``: down, clean, running, with the standard library alone, for a
folder without .venv.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

from deploy import commands, stack, summary
from deploy import environment as env
from deploy.local import lock, processes
from grid.errors import GridError

OTHER_SECONDS: Final = 90.0  # what RabbitMQ and the others may take
LOCK: Final = stack.STATE / "rabbitmq" / "lock"


def stop() -> None:
    """Stop what runs of this stack, without its supervisor's help.

    Raises:
        GridError: it does not end.
    """
    if found := processes.ours():
        summary.say(
            f"Stopping processes that run without a supervisor: {processes.described(found)}. "
            "Sessions in progress may take some seconds to finish"
        )
        processes.stop(stop_seconds(), OTHER_SECONDS)


def down() -> int:
    """Stop what runs of this stack, or say that nothing does."""
    if processes.ours():
        stop()
        summary.say("Stopped. The data stay in .run/ until `make clean`.")
    else:
        summary.say("Nothing runs.")
    stack.STATE_FILE.unlink(missing_ok=True)
    return 0


def check_data_unused() -> None:
    """Raise ``GridError`` if a program that is not of this stack uses its data."""
    if (pid := lock.holder(LOCK)) is not None:
        raise GridError(
            f"{LOCK.parent} is used by process {pid}, which is not of this stack: stop it first"
        )


def clean() -> int:
    """Stop what runs of this stack.

    Raises:
        GridError: it does not end, or somebody else uses the data.
    """
    stop()
    check_data_unused()
    return 0


def running() -> int:
    """Return the exit status: whether anything of this stack runs."""
    return 0 if processes.ours() else 1


def stop_seconds() -> int:
    """Return how long a service may take to end, by the stack state; the default without one."""
    try:
        stack_state = stack.StackState.read()
        return env.stop_seconds(stack_state.settings if stack_state else {})
    except GridError:  # what runs is stopped in any case
        return env.stop_seconds({})


COMMANDS: Final[Mapping[str, Callable[[], int]]] = {
    "down": down,
    "clean": clean,
    "running": running,
}


if __name__ == "__main__":
    sys.exit(commands.main("local.remains", COMMANDS))
