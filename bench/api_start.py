"""How long an api takes to read a long event log when it starts, and in how much memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bench import project
from bench.codecs import COUNTS, DECISION
from bench.node import SUBSTATIONS, RabbitMQ
from bench.processes import cpu_seconds, resident_mb, until
from bench.processes import page as page_of
from bench.queues import Message, fill
from bench.report import Part, Row, Table
from bench.sizes import Sizes
from deploy.local.ports import free_ports
from grid import events, provenance, topology
from grid.events import Event, State
from grid.messages import ChargeRequest

EVENTS_A_JOB: Final = 4
START_SECONDS: Final = 600.0
SECONDS, CPU, MEMORY, RATE = "seconds to ready", "CPU seconds", "RSS, MB", "events/s"
OK: Final = 200


async def measure(broker: RabbitMQ, folder: Path, sizes: Sizes) -> Part:
    """Write a log once, and start an api on it as often as there are rounds."""
    found: list[Mapping[str, float]] = []
    with broker.vhost() as vhost:
        await fill(vhost.url(), history(sizes.events // EVENTS_A_JOB))
        for _ in range(sizes.rounds):
            (port,) = free_ports(1)
            begun = time.monotonic()
            with project.api(vhost, folder, port, {}) as running:
                await until(
                    lambda port=port: page_of(port, "/readyz")[0] == OK,  # type: ignore[misc]
                    "the api has read the event log",
                    [running],
                    START_SECONDS,
                )
                seconds = time.monotonic() - begun
                found.append(
                    {
                        SECONDS: seconds,
                        CPU: cpu_seconds(running.pid),
                        MEMORY: resident_mb(running.pid),
                        RATE: sizes.events / seconds,
                    }
                )
    row = Row(f"{sizes.events:,} events", found)
    text = (
        f"An api that starts reads the event log from its beginning. {sizes.events:,} events of "
        f"{sizes.events // EVENTS_A_JOB:,} jobs that have ended, one event a message, from the "
        f"start of the process until `/readyz` is answered with 200. {sizes.described()}"
    )
    return Part(
        "api-start",
        "An api that starts",
        text,
        [Table("Start", [SECONDS, CPU, MEMORY, RATE], [row])],
    )


def history(jobs: int) -> Iterator[Message]:
    """Return the messages of so many jobs, each queued, assigned, charged and completed."""
    now = time.time()
    for number in range(jobs):
        at = now - 3600 + number / 1000
        job, where = f"{number:032x}", SUBSTATIONS[number % len(SUBSTATIONS)]
        request = ChargeRequest(job, at, vehicle_id=f"EV-{number}", requested_energy_kwh=40.5)
        dispatcher, substation = provenance.DISPATCHER, provenance.substation_writer(where)
        told = (
            (provenance.API, Event(State.QUEUED, at, job, detail=request.fields())),
            (dispatcher, Event(State.ASSIGNED, at, job, where, 1, detail=DECISION)),
            (substation, Event(State.CHARGING, at + 1, job, where, 1, counts=COUNTS)),
            (substation, Event(State.COMPLETED, at + 4, job, where, 1, counts=COUNTS)),
        )
        for writer, event in told:
            yield Message(
                topology.EVENTS_EXCHANGE, writer, f"{job}-{event.kind}", events.encode([event])
            )
