"""``python -m deploy.local``: up, down, status, logs, clean, running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from deploy import commands, ready, stack, summary
from deploy.local import processes, remains
from deploy.local.setup import Setup
from deploy.local.supervisor import LOGS, Supervisor
from grid.errors import ConfigurationError, GridError


def up() -> int:
    """Start everything, or what is missing, and wait until all is ready."""
    runs = Supervisor().runs()
    left = [] if runs else processes.ours()
    running = stack.StackState.read() if runs or left else None
    if runs and running is None:
        raise GridError(
            f"{stack.STATE_FILE}, which says how this stack runs, is gone: make down first"
        )
    try:
        wanted = Setup.decide(os.environ, running)
    except stack.PortTaken as error:
        raise GridError(f"{error}{_others()}") from error
    if left:
        remains.stop()
    if not runs:
        remains.check_data_unused()
    if running is None:
        return commands.up(wanted, None, down)
    commands.say_no_longer_set(os.environ, wanted.stack_state(), running)
    before = partial(Setup.decide, running.variables(), running) if runs else None
    return commands.up(wanted, before, down)


def down() -> int:
    """Stop everything; the data stays."""
    supervisor = Supervisor()
    if supervisor.runs():
        summary.say("Stopping: sessions in progress may take some seconds to finish")
        supervisor.stop(
            first=set(supervisor.states()) - processes.INFRASTRUCTURE,
            seconds=remains.stop_seconds(),
        )
        summary.say("Stopped. The data stay in .run/ until `make clean`.")
        stack.STATE_FILE.unlink(missing_ok=True)
        return 0
    return remains.down()


def status() -> int:
    """Show what runs; return 1 if something is not ready."""
    supervisor = Supervisor()
    stack_state = stack.StackState.read()
    if not supervisor.runs():
        if left := processes.ours():
            summary.say(
                f"No supervisor answers, but these run: {processes.described(left)}. "
                "`make up` stops them and starts everything anew, `make down` stops them."
            )
        return 1
    if stack_state is None:
        return 1
    states = supervisor.states()
    try:
        setup = Setup.decide(stack_state.variables(), stack_state)
    except ConfigurationError as error:  # what runs keeps what it read before
        for name, state in sorted(states.items()):
            summary.say(f"  {name:<14} {state}")
        summary.say(f"\n{error}")
        return 1
    bad = 0
    for program in setup.programs:
        problem = ready.problem(program.ready_url) if program.ready_url else None
        bad += problem is not None
        summary.say(
            f"  {program.name:<14} {states.get(program.name, '-'):<10} {problem or 'ready'}"
        )
    summary.say("")
    summary.say(setup.summary())
    return 1 if bad else 0


def logs() -> int:
    """Follow what every program writes."""
    files = sorted(map(str, LOGS.glob("*.log")))
    try:
        return subprocess.run(["tail", "-n", "20", "-F", *files], check=False).returncode  # noqa: S603, S607
    except KeyboardInterrupt:
        return 0


def clean() -> int:
    """Stop everything and remove its data.

    Raises:
        GridError: something does not end, or uses the data: then they stay.
    """
    down()
    remains.check_data_unused()
    shutil.rmtree(stack.STATE, ignore_errors=True)
    return 0


def running() -> int:
    """Return the exit status: whether anything runs, with its supervisor or without."""
    return 0 if Supervisor().runs() or processes.ours() else 1


def _others() -> str:
    """Return what to add if a port is taken: the stacks that run from other folders."""
    by_folder: dict[Path, list[processes.Process]] = {}
    for each in processes.of_others():
        by_folder.setdefault(each.folder, []).append(each)
    return "".join(
        f"\nA stack runs from {str(folder)!r}: {processes.described(found)}. "
        "Stop it there with  make down , or end these processes"
        for folder, found in by_folder.items()
    )


COMMANDS: Final[Mapping[str, Callable[[], int]]] = {
    each.__name__: each for each in (up, down, status, logs, clean, running)
}


if __name__ == "__main__":
    os.chdir(stack.ROOT)  # the path of the supervisor's socket is relative to it
    sys.exit(commands.main("local", COMMANDS))
