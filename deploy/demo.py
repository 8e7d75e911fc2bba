"""``python -m deploy.demo``: a rush hour in which a substation dies and another is drained.

It happens in the stack that runs from this folder. docs/tour.md says what to look at.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from deploy import commands, load, pages, passwords, stack
from deploy.local.ports import HOST
from deploy.summary import say
from grid.errors import ConfigurationError, GridError

SESSION_SECONDS: Final = 3.5  # on average, by default
CALM, RUSH = 0.1, 0.7  # of what all substations can charge
MAX_RATE: Final = 60.0  # requests a second: the rest of the machine is to stay quick
NEEDED: Final = 3  # substations
FIGURES_INTERVAL: Final = 5.0


class Action(Enum):
    """What is done to the system."""

    NOTHING = auto()
    CRASH = auto()
    START_AGAIN = auto()
    DRAIN = auto()
    MAKE_AVAILABLE = auto()


UNDO: Final = {Action.CRASH: Action.START_AGAIN, Action.DRAIN: Action.MAKE_AVAILABLE}


class Step(NamedTuple):
    """What happens ``at`` so many seconds, and where to see it."""

    at: float
    what: str
    look: str
    action: Action = Action.NOTHING
    substation: str = ""


class Stream(NamedTuple):
    """Requests at an even rate, from ``at`` on for so many ``seconds``."""

    at: float
    seconds: float
    rate: float


class Stage(Protocol):
    """Where the demo happens."""

    def send(self, stream: Stream) -> None:
        """Begin to send requests."""

    def act(self, step: Step) -> None:
        """Do a step's action, without waiting for what follows from it."""

    def figures(self) -> str:
        """Return the loads of the substations, and how many requests wait, in a line."""


SECONDS: Final = 110.0  # of the whole


def steps(names: Sequence[str]) -> list[Step]:
    """Return what happens, for the names of at least three substations."""
    _, dies, drained = names[:NEEDED]
    return [
        Step(0, "A calm quarter of a minute", "the page: all substations are about equally busy"),
        Step(15, "The rush hour begins", "the page, Last 5 minutes: sessions rise together"),
        Step(
            30,
            f"{dies} dies in the middle of its sessions",
            f"the page, its row: {dies} is not eligible, with the reason; its jobs begin again "
            "elsewhere, and requests wait",
            Action.CRASH,
            dies,
        ),
        Step(
            50,
            f"{dies} comes back",
            "the page: it is available, and takes up its load; fewer requests wait",
            Action.START_AGAIN,
            dies,
        ),
        Step(
            70,
            f"An operator drains {drained}",
            f"the page, its row: {drained} is drained; it finishes its sessions and gets no more",
            Action.DRAIN,
            drained,
        ),
        Step(
            88,
            f"{drained} is available again",
            "the page: the three are about equally busy again",
            Action.MAKE_AVAILABLE,
            drained,
        ),
        Step(95, "The rush hour is over", "the page: nothing waits"),
    ]


def streams(connectors: float) -> list[Stream]:
    """Return the requests that are sent, for so many connectors of all substations together."""
    capacity = connectors / SESSION_SECONDS
    calm, rush = (min(MAX_RATE, share * capacity) for share in (CALM, RUSH))
    return [Stream(0, SECONDS, calm), Stream(15, 80, rush)]


def play(
    names: Sequence[str],
    connectors: float,
    stage: Stage,
    *,
    speed: float = 1.0,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Have everything happen at its time; print what, and every few seconds the figures.

    ``speed`` divides the times between the steps; what is printed and the rates stay. If it is
    interrupted, every substation is as before.
    """
    acted: list[Step] = []
    began = now()
    try:
        for at, item in _in_order(names, connectors, speed):
            sleep(max(0.0, began + at - now()))
            minutes, seconds = divmod(round(at * speed), 60)
            clock = f"{minutes}:{seconds:02d}"
            if isinstance(item, Stream):
                stage.send(item)
            elif isinstance(item, Step):
                say(f"{clock}  {item.what}\n      → {item.look}")
                acted.append(item)
                stage.act(item)
            else:
                say(f"{clock}    {stage.figures()}")
    except BaseException:
        for step in _undoing(acted):
            stage.act(step)
        raise


def _undoing(acted: Sequence[Step]) -> list[Step]:
    """Return the steps that undo those actions that no later one has undone."""
    last = {step.substation: step for step in acted}
    return [
        step._replace(action=UNDO[step.action]) for step in last.values() if step.action in UNDO
    ]


def _in_order(
    names: Sequence[str], connectors: float, speed: float
) -> list[tuple[float, Step | Stream | None]]:
    """Return all that happens with its time; None is a look at the figures."""
    found: list[tuple[float, Step | Stream | None]] = []
    for stream in streams(connectors):
        shorter = Stream(stream.at / speed, stream.seconds / speed, stream.rate)
        found.append((shorter.at, shorter))
    found += [(step.at / speed, step) for step in steps(names)]
    looks = int(SECONDS / speed / FIGURES_INTERVAL)
    found += [((number + 1) * FIGURES_INTERVAL, None) for number in range(looks)]
    return sorted(found, key=lambda each: (each[0], each[1] is None))


class RunningStack:
    """The stack that runs from this folder."""

    def __init__(self, state: stack.StackState, folder: Path) -> None:
        self._mode = state.mode
        self._api = f"http://{HOST}:{state.ports[stack.API]}"
        self._variables = load.environment(state, os.environ)
        self._key = passwords.operator_key()
        self._folder = folder
        self._senders: list[subprocess.Popen[bytes]] = []
        self._files: list[Path] = []
        self._others: list[subprocess.Popen[bytes]] = []

    def substations(self) -> dict[str, float]:
        """Return the connectors of each substation that takes jobs.

        Raises:
            GridError: too few do.
        """
        rows = self._rows()
        found = {row["id"]: float(row["connectors"] or 0) for row in rows if row["eligible"]}
        if len(found) < NEEDED:
            raise GridError(
                f"{len(found)} substations take jobs, the demo needs {NEEDED}: see  make status"
            )
        return found

    def send(self, stream: Stream) -> None:
        """Begin to send requests, by the load test."""
        count = max(1, round(stream.rate * stream.seconds))
        file = self._folder / f"demo-{len(self._senders) + 1}.json"
        file.unlink(missing_ok=True)
        options = ("--rate", f"{stream.rate:.2f}", "--requests", str(count), "--quiet")
        command = [sys.executable, "-m", "load_test", *options, "--json", str(file)]
        with file.with_suffix(".log").open("wb") as log:
            sender = subprocess.Popen(  # noqa: S603
                command, env=self._variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._senders.append(sender)
        self._files.append(file)

    def act(self, step: Step) -> None:
        """Do a step's action."""
        if step.action in {Action.CRASH, Action.START_AGAIN}:
            name = "crash" if step.action is Action.CRASH else "restart"
            self._others.append(
                subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", f"deploy.{self._mode}", name],
                    env={**os.environ, commands.SERVICE: step.substation},
                    stdout=subprocess.DEVNULL,
                )
            )
        elif step.action is not Action.NOTHING:
            state = "draining" if step.action is Action.DRAIN else "available"
            self._set(step.substation, state)

    def figures(self) -> str:
        """Return the loads of the substations, and how many requests wait."""
        try:
            rows, stats = self._rows(), self._ask("/stats")
        except pages.NoAnswer as error:
            return str(error)
        loads = (f"{row['id']} {_load(row)}" for row in rows)
        return f"{'   '.join(loads)}   {stats['jobs']['queued']} wait"

    def result(self) -> Iterator[dict[str, Any]]:
        """Yield the summary of each stream of requests, once all of them have ended."""
        for sender, file in zip(self._senders, self._files, strict=True):
            sender.wait()
            if not file.exists():
                raise GridError(f"the load test failed: see {file.with_suffix('.log')}")
            yield json.loads(file.read_text(encoding="utf-8"))

    def close(self) -> None:
        """End what still sends, and wait for what was started."""
        for process in self._senders:
            process.terminate()
        for process in (*self._senders, *self._others):
            process.wait()

    def _set(self, substation: str, state: str) -> None:
        url = f"{self._api}/substations/{substation}"
        status, text = pages.ask(url, "PATCH", {"state": state}, self._key)
        if status != HTTPStatus.OK:
            raise GridError(f"{url}: {status} {text}")

    def _rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("/substations")["substations"]
        return found

    def _ask(self, path: str) -> Any:  # noqa: ANN401 - JSON
        return pages.ask_json(self._api + path, self._key)


def _load(row: Mapping[str, Any]) -> str:
    if row["eligible"]:
        return f"{row['load']:.0f}/{row['connectors']:.0f}"
    return f"{row['load']:.0f}, drained" if row["state"] == "draining" else "–"


def main() -> int:
    """Play the demo; return 1 if a request was lost."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo")
    parser.add_argument("--speed", type=float, default=1.0, help="1: 110 s; 2: half of it")
    speed = parser.parse_args().speed
    if not speed > 0:
        raise ConfigurationError(f"--speed {speed:g}: must be above 0")
    state = stack.StackState.read()
    if state is None:
        raise GridError("Nothing runs: start it with  make up")
    running = RunningStack(state, stack.STATE)
    substations = running.substations()
    say(f"Open http://localhost:{state.ports[stack.API]}/ beside this. Ctrl-C ends the demo.\n")
    try:
        play([*substations], sum(substations.values()), running, speed=speed)
        say("Waiting until every vehicle has been charged")
        found = list(running.result())
    finally:
        running.close()
    total = {name: sum(each[name] for each in found) for name in ("accepted", "completed", "lost")}
    say("\n" + "   ".join(f"{name} {value}" for name, value in total.items()))
    return 1 if total["lost"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GridError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Interrupted: all substations are as before.")
