"""``python -m deploy.local``: up, down, status, logs, clean, running."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from deploy import ready, stack, summary
from deploy.local.setup import Setup
from deploy.local.supervisor import LOGS, Supervisor, log_file
from grid.errors import GridError

READY_SECONDS: Final = 90.0
# everything else is a service, which ends in good order only while these run
INFRASTRUCTURE: Final = {"epmd", "rabbitmq", "prometheus", "grafana"}
KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
LOG_LINES: Final = 15


def up() -> int:
    """Start everything, or what is missing; comes back when all is healthy."""
    supervisor = Supervisor()
    running = stack.Note.read() if supervisor.runs() else None
    setup = Setup.decide(os.environ, running)
    setup.write_files()
    setup.note().write()
    try:
        setup.declare_at_outside_broker()
        supervisor.run(setup.programs, _environment())
        urls = {each.name: each.ready_url for each in setup.programs if each.ready_url}
        summary.say(f"Waiting until all is ready: {', '.join(urls)}")
        problems = ready.wait(urls, READY_SECONDS, supervisor.failed)
    except BaseException:
        _undo(running)
        raise
    if problems:
        _explain(problems)
        _undo(running)
        return 1
    summary.say("All of it runs, as processes of this machine:\n")
    summary.say(setup.summary())
    return 0


def down() -> int:
    """Stop everything; the data stay."""
    supervisor = Supervisor()
    if supervisor.runs():
        summary.say("Stopping: what charges may take some seconds to finish")
        supervisor.stop(first=set(supervisor.states()) - INFRASTRUCTURE)
        summary.say("Stopped. The data stay in .run/ until `make clean`.")
    stack.NOTE.unlink(missing_ok=True)
    return 0


def status() -> int:
    """Show what runs; 1 where something of it is not ready."""
    supervisor = Supervisor()
    note = stack.Note.read()
    if not supervisor.runs() or note is None:
        return 1
    setup = Setup.decide(os.environ, note)
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


def _environment() -> dict[str, str]:
    """Give what every program gets of the caller's environment; the rest it is told by name."""
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def _explain(problems: Mapping[str, str]) -> None:
    for name, why in problems.items():
        summary.say(f"\n{name} is not ready: {why}\nThe last lines of {log_file(name)}:")
        text = log_file(name).read_text(errors="replace") if log_file(name).exists() else ""
        summary.say("\n".join(f"  {line}" for line in text.splitlines()[-LOG_LINES:]))


def _undo(running: stack.Note | None) -> None:
    """Leave nothing half started, but do not stop what ran before."""
    if running is not None:
        running.write()
        summary.say("\nWhat ran before still runs.")
        return
    summary.say("\nNot all became ready: stopping everything again.")
    down()


def main() -> int:
    """Run the one command given; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    try:
        return COMMANDS[parser.parse_args().command]()
    except GridError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
