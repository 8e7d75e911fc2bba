"""``python -m deploy.local``: up, down, status, logs, clean, running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from deploy import commands, ready, stack, summary, told
from deploy.local.setup import Setup
from deploy.local.supervisor import LOGS, Supervisor

# everything else is a service, which ends in good order only while these run
INFRASTRUCTURE: Final = {"epmd", "rabbitmq", "prometheus", "grafana"}


def up() -> int:
    """Start everything, or what is missing; comes back when all is ready."""
    running = stack.Note.read() if Supervisor().runs() else None
    wanted = Setup.decide(os.environ, running)
    before = (lambda: Setup.decide({}, running)) if running else None
    return commands.up(wanted, before, down)


def down() -> int:
    """Stop everything; the data stay."""
    supervisor = Supervisor()
    if supervisor.runs():
        summary.say("Stopping: what charges may take some seconds to finish")
        note = stack.Note.read()
        supervisor.stop(
            first=set(supervisor.states()) - INFRASTRUCTURE,
            seconds=told.stop_seconds(note.settings if note else {}),
        )
        summary.say("Stopped. The data stay in .run/ until `make clean`.")
    stack.NOTE.unlink(missing_ok=True)
    return 0


def status() -> int:
    """Show what runs; 1 where something of it is not ready."""
    supervisor = Supervisor()
    note = stack.Note.read()
    if not supervisor.runs() or note is None:
        return 1
    setup = Setup.decide({}, note)
    states = supervisor.states()
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
    """Stop everything and remove its data."""
    down()
    shutil.rmtree(stack.STATE, ignore_errors=True)
    return 0


def running() -> int:
    """Say by the exit status whether anything runs."""
    return 0 if Supervisor().runs() else 1


COMMANDS: Final[Mapping[str, Callable[[], int]]] = {
    each.__name__: each for each in (up, down, status, logs, clean, running)
}


if __name__ == "__main__":
    sys.exit(commands.main("local", COMMANDS))
