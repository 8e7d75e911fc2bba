"""What a substation with very many sessions at once needs, and how long its loop is blocked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.load import connect
from bench.node import SUBSTATIONS, RabbitMQ, VirtualHost
from bench.processes import NotMeasured, cpu_seconds, module, program, resident_mb, until_page
from bench.queues import fill, jobs
from bench.report import Part, Row, Table, percentile
from bench.sizes import Sizes
from deploy.local.ports import HOST, free_ports
from deploy.rabbitmq.users import substation_user

NAME: Final = SUBSTATIONS[0]
PROBE_SECONDS: Final = 0.02
STALL_SECONDS: Final = 120.0
LOAD_LINE: Final = b"\nev_charging_load "
DONE_LINE: Final = b"\nev_charging_sessions_completed_total "
PROBE: Final = f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
PAGE: Final = f"GET /metrics HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
PEAK, CPU, MEMORY = "most sessions at once", "CPU µs a session", "RSS, MB"
P50, P99, WORST = "answer p50, ms", "answer p99, ms", "worst, ms"


async def measure(broker: RabbitMQ, folder: Path, sizes: Sizes) -> Part:
    """Measure one substation that charges all its jobs at once."""
    found: list[Mapping[str, float]] = []
    for _ in range(sizes.rounds):
        with broker.vhost() as vhost:
            found.append(await _once(vhost, folder, sizes))
    text = (
        f"{sizes.sessions:,} jobs wait in the queue of one substation with as many connectors and "
        f"sessions of {sizes.session_seconds:g} s; from its start until the last session has "
        "ended. Delays of its loop are measured from outside: a small page is requested "
        f"every {PROBE_SECONDS * 1e3:.0f} ms. {sizes.described()}"
    )
    table = Table(
        "One substation",
        [PEAK, CPU, MEMORY, P50, P99, WORST],
        [Row(f"{sizes.sessions:,} sessions", found)],
    )
    return Part("substation", "A substation", text, [table])


async def _once(vhost: VirtualHost, folder: Path, sizes: Sizes) -> dict[str, float]:
    await fill(vhost.url(), jobs(NAME, sizes.sessions))
    (port,) = free_ports(1)
    variables = {
        "AMQP_URL": vhost.url(substation_user(NAME)),
        "SUBSTATION_ID": NAME,
        "SUBSTATION_METRICS_PORT": str(port),
        "CONNECTORS": str(sizes.sessions),
        "CHARGE_SECONDS_MIN": str(sizes.session_seconds),
        "CHARGE_SECONDS_MAX": str(sizes.session_seconds),
    }
    with program("substation", module("substation"), variables, folder) as running:
        await until_page(port, "/metrics", [running])
        waited: list[float] = []
        probing = asyncio.create_task(_probe(port, waited))
        peak, since, done = 0.0, time.monotonic(), -1.0
        connection = await connect(port)
        while done < sizes.sessions:
            await asyncio.sleep(0.5)
            running.check()
            page = (await connection.ask(PAGE)).body
            peak, before = max(peak, value(page, LOAD_LINE)), done
            done = value(page, DONE_LINE)
            if done != before:
                since = time.monotonic()
            elif time.monotonic() - since > STALL_SECONDS + sizes.session_seconds:
                raise NotMeasured(f"only {done:.0f} sessions ended\n{running.log_end()}")
        probing.cancel()
        connection.close()
        return {
            PEAK: peak,
            CPU: 1e6 * cpu_seconds(running.pid) / sizes.sessions,
            MEMORY: resident_mb(running.pid),
            P50: percentile(waited, 0.5),
            P99: percentile(waited, 0.99),
            WORST: max(waited, default=0.0),
        }


async def _probe(port: int, waited: list[float]) -> None:
    """Request a small page repeatedly; record how many ms each answer took."""
    connection = await connect(port)
    while True:
        waited.append(1e3 * (await connection.ask(PROBE)).seconds)
        await asyncio.sleep(PROBE_SECONDS)


def value(page: bytes, line: bytes) -> float:
    """Return the figure of a line of a metrics page. Raise ``NotMeasured`` if it is missing."""
    _, found, rest = page.partition(line)
    if not found:
        raise NotMeasured(f"the page has no{line.decode().strip()!r}")
    return float(rest.partition(b"\n")[0])
