"""``python -m deploy.local``: up, down, status, restart, crash, logs, clean, running."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from deploy import commands, overview, stack, summary
from deploy import environment as env
from deploy import logs as log_lines
from deploy.local import processes, remains
from deploy.local.programs import BROKER_STOP_SECONDS
from deploy.local.setup import Setup
from deploy.local.supervisor import LOGS, RUNNING, Supervisor
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
    """Show what runs and what goes on; return 1 if something does not work."""
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
    states, pids = supervisor.states(), processes.pids(processes.ours())
    try:
        setup = Setup.decide(stack_state.variables(), stack_state)
    except ConfigurationError as error:  # what runs keeps what it read before
        found = [
            overview.Program(name, state, pids.get(name), "not asked")
            for name, state in sorted(states.items())
        ]
        summary.say(f"{overview.table(found)}\n\n{error}")
        return 1
    problems = setup.look().waiting
    found = []
    for program in setup.programs:
        state = states.get(program.name, "-")
        problem = problems.get(program.name) or (None if state == RUNNING else "it does not run")
        found.append(overview.Program(program.name, state, pids.get(program.name), problem))
    result = commands.show_status(found, setup.urls(), stack_state.settings)
    summary.say(f"\n{setup.summary()}")
    return result


def restart() -> int:
    """Restart the programs that SERVICE names; return 1 if not all is ready afterwards.

    Raises:
        GridError: the supervisor does not do it.
    """
    supervisor = Supervisor()
    if not supervisor.runs():
        raise GridError("No supervisor answers: `make up` starts everything anew")
    names = commands.services_to_restart(os.environ, supervisor.states())
    limit = max(_stop_seconds(name) for name in names)
    summary.say(
        f"Restarting {', '.join(names)}: waiting until it has ended. Sessions in progress may take "
        f"some seconds; what has not ended after {limit} s is killed"
    )
    supervisor.restart(names, remains.stop_seconds())
    stack_state = stack.StackState.read()
    variables = stack_state.variables() if stack_state else {}
    return commands.wait_again(Setup.decide(variables, stack_state))


def _stop_seconds(name: str) -> int:
    """Return after how many seconds the supervisor kills a program that does not end."""
    if name == commands.BROKER:
        return BROKER_STOP_SECONDS
    if name in processes.INFRASTRUCTURE:
        return env.STOP_MARGIN_SECONDS
    return remains.stop_seconds()


def crash() -> int:
    """Kill the programs that SERVICE names, and leave them ended until a restart."""
    supervisor = Supervisor()
    for name in commands.services_to_restart(os.environ, supervisor.states()):
        supervisor.kill(name)
    return 0


def logs() -> int:
    """Show what every program writes, or those that SERVICE names, from LEVEL on."""
    files = {file.stem: file for file in sorted(LOGS.glob("*.log"))}
    names = commands.services_named(os.environ, files) or [*files]

    # those that follow end with this
    options = [f"--pid={os.getpid()}", "-F"] if commands.follows(os.environ) else []

    def read(lines: int) -> Iterator[tuple[str, str]]:
        command = ["tail", "--quiet", f"--lines={lines}", *options]
        return log_lines.follow({name: [*command, str(files[name])] for name in names})

    return commands.show_logs(os.environ, read)


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
    each.__name__: each for each in (up, down, status, restart, crash, logs, clean, running)
}


if __name__ == "__main__":
    os.chdir(stack.ROOT)  # the path of the supervisor's socket is relative to it
    sys.exit(commands.main("local", COMMANDS))
