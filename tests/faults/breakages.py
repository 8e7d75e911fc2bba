"""What is broken in a running system, and which alert says so, within how long."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from grid import topology
from tests.broker import VirtualHost
from tests.faults import brokerside
from tests.faults.report import with_table
from tests.operators import put
from tests.system import System

BEGIN: Final = "<!-- the breakages: written by `make faults` -->"
END: Final = "<!-- end of the breakages -->"
SUBSTATIONS: Final = ("substation1", "substation2", "substation3")
PILE: Final = 400  # requests; one connector needs minutes for them
PAUSE_SECONDS: Final = 0.5  # between two requests of the traffic
OK: Final = 200


@dataclass(frozen=True, slots=True)
class Scene:
    """The running system, and the target file that Prometheus alone reads."""

    system: System
    vhost: VirtualHost
    targets: Path


@dataclass(frozen=True, slots=True)
class Breakage:
    """One breakage: it lasts as long as the context of ``broken``.

    ``alert`` is the name of the only alert that is to fire, ``within`` so many seconds.
    """

    name: str
    alert: str
    within: float
    broken: Callable[[Scene], AbstractContextManager[None]]
    is_quick: bool = False  # so that it is tried in the short form too


@contextmanager
def traffic(system: System) -> Iterator[None]:
    """Send requests all the time; whether they are accepted does not matter."""
    stopped = threading.Event()

    def send() -> None:
        while not stopped.wait(PAUSE_SECONDS):
            system.post(Prefer="respond-async")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stopped.set()
        sender.join()


@contextmanager
def _stopped(name: str, scene: Scene, how: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    scene.system.end(name, how)
    try:
        yield
    finally:
        scene.system.start(name)
        scene.system.wait_ready()


@contextmanager
def _hanging(name: str, scene: Scene) -> Iterator[None]:
    scene.system.tell(name, signal.SIGSTOP)
    try:
        yield
    finally:
        scene.system.tell(name, signal.SIGCONT)
        scene.system.wait_ready()


@contextmanager
def _drained(scene: Scene) -> Iterator[None]:
    for name in SUBSTATIONS:
        put(scene.system, name, state="draining")
    try:
        yield
    finally:
        _restore(scene)


@contextmanager
def _withheld(scene: Scene) -> Iterator[None]:
    """Drain two substations and limit the third to one session, while very many requests come."""
    for name in SUBSTATIONS[:2]:
        put(scene.system, name, state="draining")
    put(scene.system, SUBSTATIONS[2], limit=1)
    scene.system.post([{}] * PILE, path="/charges")
    try:
        yield
    finally:
        _restore(scene)


def _restore(scene: Scene) -> None:
    for name in SUBSTATIONS:
        put(scene.system, name, state="available", limit=None)
    scene.system.wait_ready()


@contextmanager
def _broker_away(scene: Scene) -> Iterator[None]:
    scene.vhost.broker.stop()
    try:
        yield
    finally:
        scene.vhost.broker.start()
        scene.system.wait_ready()


@contextmanager
def _alarm(kind: str, scene: Scene) -> Iterator[None]:
    raised = {"disk": brokerside.disk_alarm, "memory": brokerside.memory_alarm}[kind]
    with raised(scene.vhost.broker):
        yield
    scene.system.wait_ready()


@contextmanager
def _parked(scene: Scene) -> Iterator[None]:
    """Publish what is no request."""
    exchange = f"/api/exchanges/{scene.vhost.name}/{topology.REQUESTS_EXCHANGE}/publish"
    message = {
        "properties": {},
        "routing_key": topology.REQUESTS,
        "payload": "no request",
        "payload_encoding": "string",
    }
    assert scene.vhost.broker.request("POST", exchange, message) == {"routed": True}
    try:
        yield
    finally:
        brokerside.purge_queue(scene.vhost, topology.PARKED)


@contextmanager
def _other_targets(scene: Scene) -> Iterator[None]:
    """Have Prometheus read a target file without a substation that the dispatcher has."""
    before = scene.targets.read_text()
    _replace(scene.targets, json.dumps(json.loads(before)[:-1]))
    try:
        yield
    finally:
        _replace(scene.targets, before)


@contextmanager
def _invalid_targets(scene: Scene) -> Iterator[None]:
    before = scene.system.targets.read_text()
    _replace(scene.system.targets, before.replace('"substation":', '"substation ":'))
    try:
        yield
    finally:
        _replace(scene.system.targets, before)


def _replace(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


BREAKAGES: Final = (
    Breakage("the dispatcher stopped", "DispatcherDown", 60, partial(_stopped, "dispatcher")),
    Breakage("a message that is no request", "RequestsParked", 30, _parked, is_quick=True),
    Breakage("the dispatcher hangs", "DispatcherDown", 60, partial(_hanging, "dispatcher")),
    Breakage("the api stopped", "ApiDown", 60, partial(_stopped, "api")),
    Breakage(
        "a substation killed",
        "SubstationIneligible",
        60,
        partial(_stopped, "substation2", how=signal.SIGKILL),
    ),
    Breakage("all substations drained", "NoSubstationEligible", 45, _drained),
    Breakage(
        "two drained, the third limited, requests pile up", "CapacityWithheld", 180, _withheld
    ),
    Breakage("disk alarm", "RabbitMQDiskAlarm", 30, partial(_alarm, "disk")),
    Breakage("memory alarm", "RabbitMQMemoryAlarm", 30, partial(_alarm, "memory")),
    Breakage("RabbitMQ stopped", "RabbitMQDown", 60, _broker_away),
    Breakage("Prometheus reads another target file", "TargetsDiffer", 120, _other_targets),
    Breakage("the target file is invalid", "TargetFileRefused", 45, _invalid_targets),
)


def table(rows: list[tuple[Breakage, float]]) -> str:
    """Return the table of what was broken, and after how many seconds which alert fired."""
    lines = ["| broken | the alert that fired, and no other | after |", "|---|---|---:|"]
    lines += [f"| {each.name} | `{each.alert}` | {after:.0f} s |" for each, after in rows]
    return "\n".join(lines)


def write_table(document: Path, rows: list[tuple[Breakage, float]]) -> None:
    """Put the table into a document, between its marks."""
    text = document.read_text(encoding="utf-8")
    document.write_text(with_table(text, table(rows), BEGIN, END), encoding="utf-8")


def shown(alert: dict[str, Any]) -> str:
    """Return what an alert says."""
    return f"{alert['labels']['alertname']}: {alert['annotations']['description']}"
