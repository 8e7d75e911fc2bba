"""How long an api takes to read a long event log when it starts, and in how much memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from api.settings import ApiSettings
from bench import project
from bench.codecs import COUNTS, DECISION
from bench.node import SUBSTATIONS, RabbitMQ, VirtualHost
from bench.processes import (
    NotMeasured,
    Program,
    cpu_seconds,
    module,
    program,
    resident_mb,
    until,
)
from bench.processes import page as page_of
from bench.queues import Message, fill
from bench.report import Part, Ratio, Row, Table
from bench.sizes import Sizes
from deploy.local.ports import answers, free_ports
from grid import events, provenance, topology
from grid.events import Event, State
from grid.messages import ChargeRequest

EVENTS_A_JOB: Final = 4
EVENTS_A_MESSAGE: Final = 4  # as a busy writer writes them; RabbitMQ keeps a million of them
AGO_SECONDS: Final = 3600.0
JOBS_A_SECOND: Final = 1000.0
START_SECONDS: Final = 600.0
SECONDS, CPU, MEMORY, RATE = "seconds to ready", "CPU seconds", "RSS, MB", "events/s"
OK: Final = 200
OURS, READER = "api", "bare pika and json"
TEXT: Final = (
    "An api that starts reads the event log from its beginning: {events:,} events of {jobs:,} jobs "
    "that have ended, {message} a message; from the start of the process until `/readyz` is "
    "answered with 200. The peer: a reader that keeps plain JSON, unchecked "
    "(`bench/peers/pika_reader.py`). {sizes}"
)


async def measure(broker: RabbitMQ, folder: Path, sizes: Sizes) -> Part:
    """Write a log once, and have it read in turns, once for each round."""
    found: dict[str, list[Mapping[str, float]]] = {READER: [], OURS: []}
    with broker.vhost() as vhost:
        await fill(vhost.url(), history(sizes.events // EVENTS_A_JOB))
        for _ in range(sizes.rounds):
            found[READER].append(await _reader(vhost, folder, sizes.events))
            found[OURS].append(await _api(vhost, folder, sizes.events))
    table = Table(
        f"{sizes.events:,} events",
        [SECONDS, RATE, CPU, MEMORY],
        [Row(*each) for each in found.items()],
        [Ratio(each, OURS, READER) for each in (SECONDS, CPU, MEMORY)],
    )
    text = TEXT.format(
        events=sizes.events,
        jobs=sizes.events // EVENTS_A_JOB,
        message=EVENTS_A_MESSAGE,
        sizes=sizes.described(),
    )
    return Part("api-start", "An api that starts", text, [table])


async def _api(vhost: VirtualHost, folder: Path, number: int) -> dict[str, float]:
    (port,) = free_ports(1)
    begun = time.monotonic()
    with project.api(vhost, folder, port, {}) as running:
        await until(
            lambda: page_of(port, "/readyz")[0] == OK,
            "the api has read the event log",
            [running],
            START_SECONDS,
        )
        figures = _figures(running, begun, number)
        _check(port, number // EVENTS_A_JOB)
    return figures


async def _reader(vhost: VirtualHost, folder: Path, number: int) -> dict[str, float]:
    (port,) = free_ports(1)
    variables = {"AMQP_URL": vhost.url(), "EVENTS": str(number), "PORT": str(port)}
    begun = time.monotonic()
    with program("reader", module("bench.peers.pika_reader"), variables, folder) as running:
        what = "the reader has read the event log"
        await until(lambda: answers(port), what, [running], START_SECONDS)
        return _figures(running, begun, number)


def _figures(running: Program, begun: float, number: int) -> dict[str, float]:
    seconds = time.monotonic() - begun
    return {
        SECONDS: seconds,
        RATE: number / seconds,
        CPU: cpu_seconds(running.pid),
        MEMORY: resident_mb(running.pid),
    }


def _check(port: int, jobs: int) -> None:
    """Raise ``NotMeasured`` if the api does not know the jobs: it has skipped events.

    It keeps no more than ``MAX_JOBS``.
    """
    jobs = min(jobs, ApiSettings.model_fields["max_jobs"].default)
    _, content = page_of(port, "/metrics")
    if f'api_jobs{{status="completed"}} {float(jobs)}\n'.encode() not in content:
        raise NotMeasured(f"the api does not know {jobs} completed jobs from the event log")


def history(jobs: int) -> Iterator[Message]:
    """Return the messages of so many jobs, each queued, assigned, charged and completed."""
    begun = time.time() - AGO_SECONDS
    for first in range(0, jobs, EVENTS_A_MESSAGE):
        where = SUBSTATIONS[first // EVENTS_A_MESSAGE % len(SUBSTATIONS)]
        by_writer: dict[tuple[str, str], list[Event]] = {}
        for number in range(first, min(first + EVENTS_A_MESSAGE, jobs)):
            for writer, event in _events_of(number, where, begun + number / JOBS_A_SECOND):
                by_writer.setdefault((writer, event.kind), []).append(event)
        for (writer, kind), found in by_writer.items():
            body = events.encode(found)
            yield Message(topology.EVENTS_EXCHANGE, writer, f"{first}-{kind}", body)


def _events_of(number: int, where: str, at: float) -> Iterator[tuple[str, Event]]:
    """Return the events of one job, each with its writer."""
    job = f"{number:032x}"
    request = ChargeRequest(job, at, vehicle_id=f"EV-{number}", requested_energy_kwh=40.5)
    substation = provenance.substation_writer(where)
    yield provenance.API, Event(State.QUEUED, at, job, detail=request.fields())
    yield provenance.DISPATCHER, Event(State.ASSIGNED, at, job, where, 1, detail=DECISION)
    yield substation, Event(State.CHARGING, at + 1, job, where, 1, counts=COUNTS)
    yield substation, Event(State.COMPLETED, at + 4, job, where, 1, counts=COUNTS)
