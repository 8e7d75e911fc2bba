"""What `make up` does in either mode, and how its commands are called."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

from deploy import environment as env
from deploy import logs, overview, ready, stack, summary
from deploy.rabbitmq import disk
from deploy.rabbitmq.live import OwnBroker
from deploy.trial import Outcome
from grid.errors import ConfigurationError, GridError

BROKER: Final = "rabbitmq"  # as both modes call it
SERVICE, LEVEL, FOLLOW = "SERVICE", "LEVEL", "FOLLOW"  # variables of single commands
INTERRUPTED: Final = 130  # as a shell's for SIGINT


class Setup(Protocol):
    """All that runs, and how, as one call of `make up` decided it."""

    def stack_state(self) -> stack.StackState:
        """Return the stack state to keep while this runs."""

    def write_files(self) -> None:
        """Write everything that it reads."""

    def own_broker(self) -> OwnBroker | None:
        """Return our own broker; None if an outside one is used."""

    def declare_at_outside_broker(self) -> None:
        """Declare the topology at an outside broker.

        Raises:
            GridError: it does not take it.
        """

    def start(self) -> None:
        """Run exactly this; what already runs unchanged is left alone. Raise ``GridError``."""

    def look(self) -> ready.Look:
        """Return what is not ready."""

    def try_request(self) -> Outcome:
        """Send a request through, once all else is ready; return its outcome."""

    def explain(self, names: Iterable[str]) -> None:
        """Show the last lines that these programs have written."""

    def summary(self) -> str:
        """Return what runs where, and how to log in."""


def up(wanted: Setup, before: Callable[[], Setup] | None, stop: Callable[[], int]) -> int:
    """Start what is missing, and wait until all is ready. Return the exit status.

    If that fails, ``before``, which ran until now, is set up again; without one, ``stop`` leaves
    nothing half started.
    """
    try:
        wanted.write_files()
        if (broker := wanted.own_broker()) is not None:
            broker.load()
            if (short := disk.shortage(stack.ROOT)) is not None:
                summary.say(short)
        wanted.declare_at_outside_broker()
        wanted.stack_state().write()
        wanted.start()
        summary.say("Waiting until everything is ready")
        problems = ready.wait(partial(_look, wanted, broker), summary.say)
        outcome = Outcome(problems) if problems else wanted.try_request()
    except BaseException:
        _undo(before, stop)
        raise
    if outcome.problems:
        for name, why in outcome.problems.items():
            summary.say(f"\n{name} is not ready: {why}")
        wanted.explain(outcome.problems)
        _undo(before, stop)
        return 1
    if outcome.remark:
        summary.say(outcome.remark)
    summary.say(f"Everything runs:\n\n{wanted.summary()}")
    if broker is not None:
        _withdraw(broker)
    return 0


def services_named(environment: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Return the services that ``SERVICE`` names, separated by spaces or commas; maybe none.

    Raises:
        ConfigurationError: there is no such service.
    """
    names = environment.get(SERVICE, "").replace(",", " ").split()
    for name in names:
        if name not in known:
            raise ConfigurationError(f"{SERVICE}={name}: must be of {', '.join(sorted(known))}")
    return list(dict.fromkeys(names))


def services_to_restart(environment: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Return the services that ``SERVICE`` names. Raise ``ConfigurationError`` if it names none."""
    if not (names := services_named(environment, known)):
        raise ConfigurationError(
            f"make restart {SERVICE}=…  names what to restart, one or several of "
            f"{', '.join(sorted(known))}"
        )
    return names


def show_status(
    programs: Sequence[overview.Program], urls: overview.Pages, settings: Mapping[str, str]
) -> int:
    """Print what runs, what goes on, and the settings; return 1 if something does not work.

    A critical alert that fires is something, too.
    """
    summary.say(overview.table(programs))
    situation = overview.situation(urls)
    summary.say(f"\n{situation.text}\n{overview.settings_in_force(settings)}")
    return 1 if situation.is_critical or any(each.problem for each in programs) else 0


def follows(environment: Mapping[str, str]) -> bool:
    """Return whether `make logs` waits for new lines, as it does without ``FOLLOW=0``.

    Raises:
        ConfigurationError: it is neither 0 nor 1.
    """
    value = environment.get(FOLLOW) or "1"
    if value not in {"0", "1"}:
        raise ConfigurationError(
            f"{FOLLOW}={value}: must be 1 (wait for new lines) or 0 (the last lines alone)"
        )
    return value == "1"


def show_logs(
    environment: Mapping[str, str], follow: Callable[[int], Iterable[tuple[str, str]]]
) -> int:
    """Print lines, each after the name of its source, until the reader or the source ends.

    Args:
        environment: with ``LEVEL``, the least level to show, and ``FOLLOW``.
        follow: returns sources and lines, beginning with so many that were written before.
    """
    word = environment.get(LEVEL)
    lines = logs.LINES if follows(environment) else logs.LAST_LINES
    shown = logs.LevelFilter(logs.level_named(word or logs.LEVELS[0]))
    # as Ctrl-C: what follows the logs ends too
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for source, line in follow(logs.FILTERED_LINES if word else lines):
            if shown.shows(source, line):
                sys.stdout.write(f"{source:<14} | {line}\n")
                sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def wait_again(setup: Setup) -> int:
    """Wait until all is ready after a restart; return the exit status."""
    summary.say("Waiting until everything is ready")
    problems = ready.wait(setup.look, summary.say)
    for name, why in problems.items():
        summary.say(f"\n{name} is not ready: {why}")
    if problems:
        setup.explain(problems)
        return 1
    return 0


def say_no_longer_set(
    environment: Mapping[str, str], wanted: stack.StackState, running: stack.StackState
) -> None:
    """Print which settings of the running stack nobody sets any more."""
    if names := env.no_longer_set(environment, wanted, running):
        summary.say(
            f"No longer set, so back to the default: {', '.join(names)}. "
            "Settings that are to last belong into .env"
        )


def _look(wanted: Setup, broker: OwnBroker | None) -> ready.Look:
    """Return what is not ready, and load what our own broker lacks now that it has booted."""
    seen = wanted.look()
    if broker is not None:
        with suppress(GridError):  # it may be booting: the next look tries again
            broker.complete()
            if seen.waiting and (short := broker.short_of_disk()) is not None:
                return replace(seen, waiting={**seen.waiting, BROKER: short})
    return seen


def _withdraw(broker: OwnBroker) -> None:
    """Remove the users that are no longer needed now that all else runs, and their passwords.

    Raise ``GridError`` if RabbitMQ refuses to remove them; what runs is not affected.
    """
    for user in broker.withdraw():
        summary.say(f"Removed RabbitMQ's user {user}: nothing uses it any more")
        (stack.SECRETS / user).unlink(missing_ok=True)


def _undo(before: Callable[[], Setup] | None, stop: Callable[[], int]) -> None:
    if before is None:
        summary.say("\nNot everything became ready: stopping everything again.")
        stop()
        return
    try:
        setup = before()
        setup.write_files()
        setup.stack_state().write()
        setup.start()
        if (broker := setup.own_broker()) is not None:
            _withdraw(broker)
    except GridError as error:
        summary.say(
            f"\nNot everything became ready, and the previous settings cannot be restored: {error}"
        )
        return
    summary.say(
        "\nNot everything became ready: it runs with the previous settings. See  make status"
    )


def main(mode: str, commands: Mapping[str, Callable[[], int]]) -> int:
    """Run the one command given on the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog=f"python3 -m deploy.{mode}")
    parser.add_argument("command", choices=commands)
    try:
        return commands[parser.parse_args().command]()
    except GridError as error:
        return _failed(str(error))
    except BrokenPipeError:  # the reader has ended, like `head`: print nothing more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, UnicodeError) as error:  # a full disk, another owner, a name that is no text
        return _failed(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        return _failed("Interrupted.", INTERRUPTED)


def _failed(why: str, status: int = 1) -> int:
    sys.stderr.write(why.encode(errors="backslashreplace").decode() + "\n")
    return status
