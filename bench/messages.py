"""What each message of a job costs RabbitMQ, and what RabbitMQ does while there are no jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import quote

from bench.chains import Chain, ours, plain
from bench.node import RabbitMQ, VirtualHost
from bench.patterns import (
    AT_ONCE,
    BROKER,
    CLIENT,
    RATE,
    TODAY,
    Pattern,
    at_rate,
    flowing,
    saturated,
)
from bench.peers.asks import ASKS, ask, held
from bench.processes import cpu_seconds
from bench.report import Part, Row, Table, compared
from bench.sizes import Sizes
from grid.events import State

JOBS_A_SECOND: Final = 100
_ALL: Final = (
    AT_ONCE,
    Pattern("each event a message", joined=False),
    Pattern("request is its own event", request_is_event=True),
    Pattern("job is its own event", job_is_event=True),
    Pattern("both are their own events", request_is_event=True, job_is_event=True),
    Pattern("queued collected for 20 ms", collected=frozenset({State.QUEUED})),
    TODAY,
    Pattern(
        "queued and charging collected for 20 ms",
        collected=frozenset({State.QUEUED, State.CHARGING}),
    ),
    Pattern("one reader", readers=1),
    Pattern("no event log", log=False),
)
PATTERNS: Final[Mapping[str, Pattern]] = {each.name: each for each in _ALL}
OVER: Final = f"÷ {AT_ONCE.name}"
BROKER_OVER, CLIENT_OVER, RATE_OVER = (
    f"{each} {OVER}" for each in ("RabbitMQ", "client", "jobs/s")
)
SHARE: Final = f"of RabbitMQ's at {JOBS_A_SECOND} jobs/s, %"
CPU_A_SECOND, CONNECTIONS, CHANNELS = "RabbitMQ CPU ms/s", "connections", "channels"
OTHERS: Final = "services' CPU ms/s"
SETTLE_SECONDS: Final = 6.0  # until a service has done what follows its start
ASK_CPU: Final = "RabbitMQ CPU µs"
HELD: Final = 20  # idle connections
HOLD: Final = f"an idle connection with a channel, for a second (of {HELD})"
TEXT: Final = """\
Only the messages: every role of the chain (an api, a dispatcher that takes turns, three \
substations, and whoever reads the event log) runs in one process on `grid.amqp`, on links of its \
own, with the bodies that travel today. So the patterns differ in nothing but what is published, \
routed and read. Ratios are of the same round. A job that is its own event carries its decision. \
The services collect `charging`. \
{sizes}
"""

StartChain = Callable[[VirtualHost, Path], AbstractAsyncContextManager[Chain]]
StartIdle = Callable[[VirtualHost, Path], AbstractAsyncContextManager[list[int]]]


async def measure(broker: RabbitMQ, folder: Path, sizes: Sizes) -> Part:
    """Measure every pattern in turns, then what is spent while nothing happens."""
    slow: dict[str, list[Mapping[str, float]]] = {name: [] for name in PATTERNS}
    fast: dict[str, list[Mapping[str, float]]] = {name: [] for name in PATTERNS}
    for names in sizes.turns(list(PATTERNS)):
        for name in names:
            with broker.vhost() as vhost:
                async with flowing(vhost, PATTERNS[name]) as flow:
                    number = int(JOBS_A_SECOND * sizes.pattern_seconds)
                    slow[name].append(await at_rate(vhost, flow, JOBS_A_SECOND, number))
                    fast[name].append(await saturated(vhost, flow, sizes.pattern_jobs))
    ratios = {BROKER_OVER: BROKER, CLIENT_OVER: CLIENT, RATE_OVER: RATE}
    at_100 = median(each[BROKER] for each in slow[AT_ONCE.name]) * JOBS_A_SECOND
    tables = [
        Table(
            f"{JOBS_A_SECOND} jobs/s",
            [BROKER, BROKER_OVER, CLIENT, CLIENT_OVER],
            compared(slow, AT_ONCE.name, ratios),
            spreads=[BROKER, BROKER_OVER],
        ),
        Table(
            "As fast as it goes",
            [RATE, RATE_OVER, BROKER, BROKER_OVER, CLIENT, CLIENT_OVER],
            compared(fast, AT_ONCE.name, ratios),
            spreads=[RATE_OVER, BROKER_OVER],
        ),
        Table(
            "No jobs",
            [CPU_A_SECOND, SHARE, OTHERS, CONNECTIONS, CHANNELS],
            await _idle(broker, folder, sizes, at_100),
        ),
        Table("What is asked over and over", [ASK_CPU], await _asks(broker, sizes)),
    ]
    return Part("messages", "Messages", TEXT.format(sizes=sizes.described()).strip(), tables)


@asynccontextmanager
async def _nothing(_vhost: VirtualHost, _folder: Path) -> AsyncIterator[list[int]]:
    yield []


@asynccontextmanager
async def _pids_of(chain: StartChain, vhost: VirtualHost, folder: Path) -> AsyncIterator[list[int]]:
    async with chain(vhost, folder) as running:
        yield [each.pid for each in running.programs.values()]


IDLE: Final[Mapping[str, StartIdle]] = {
    "RabbitMQ alone": _nothing,
    "plain chain on aio-pika": partial(_pids_of, plain),
    "the project": partial(_pids_of, ours),
}


async def _idle(broker: RabbitMQ, folder: Path, sizes: Sizes, at_100: float) -> list[Row]:
    rows = []
    for name, start in IDLE.items():
        with broker.vhost() as vhost:
            async with start(vhost, folder) as pids:
                await asyncio.sleep(min(SETTLE_SECONDS, sizes.idle_seconds))
                before = sum(map(cpu_seconds, pids))
                spent = await _spent(broker, sizes.idle_seconds)
                own = (sum(map(cpu_seconds, pids)) - before) / sizes.idle_seconds
                path = quote(vhost.name, safe="")
                connections = broker.request("GET", f"/api/vhosts/{path}/connections")
                channels = broker.request("GET", f"/api/vhosts/{path}/channels")
        figures = {
            CPU_A_SECOND: 1e3 * spent,
            SHARE: 100 * 1e3 * spent / at_100,
            OTHERS: 1e3 * own,
            CONNECTIONS: float(len(connections)),
            CHANNELS: float(len(channels)),
        }
        rows.append(Row(name, [figures]))
    return rows


async def _asks(broker: RabbitMQ, sizes: Sizes) -> list[Row]:
    rows = []
    with broker.vhost() as vhost:
        for name in ASKS:
            await asyncio.to_thread(ask, vhost.url(), name, 10)  # the first ones cost more
            before = cpu_seconds(broker.pid)
            await asyncio.to_thread(ask, vhost.url(), name, sizes.asks)
            rows.append(_row(name, 1e6 * (cpu_seconds(broker.pid) - before) / sizes.asks))
        alone = await _spent(broker, sizes.idle_seconds)
        with held(vhost.url(), HELD):
            spent = await _spent(broker, sizes.idle_seconds)
        rows.append(_row(HOLD, 1e6 * (spent - alone) / HELD))
    return rows


async def _spent(broker: RabbitMQ, seconds: float) -> float:
    """Return the CPU seconds that RabbitMQ spends in a second, from now on."""
    before, began = cpu_seconds(broker.pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (cpu_seconds(broker.pid) - before) / (time.monotonic() - began)


def _row(name: str, micros: float) -> Row:
    return Row(name, [{ASK_CPU: micros}])
