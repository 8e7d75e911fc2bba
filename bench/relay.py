"""How fast waiting requests are passed on to three substations' queues, and at what cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from bench.node import SUBSTATIONS, RabbitMQ, VirtualHost
from bench.processes import NotMeasured, Program, cpu_seconds, module, program
from bench.profile import profiled
from bench.project import targets
from bench.queues import fill, requests
from bench.report import Part, Ratio, Row, Table
from bench.sizes import Sizes
from bench.stand_ins import StandIns
from deploy.local.ports import free_ports
from grid import topology

POLL_INTERVAL: Final = 0.05
STALL_SECONDS: Final = 90.0  # without a message that is passed on
RATE, CPU, BROKER = "requests/s", "CPU µs a request", "RabbitMQ CPU µs a request"
OURS, SILENT = "dispatcher", "dispatcher, no event log"
PIKA, PIKA_SILENT = "bare pika", "bare pika, no event log"
PLAIN: Final = "grid.amqp, round robin"
SHOVEL: Final = "Shovel, one queue, no event log"
TEXT: Final = """\
{number:,} requests wait in `charge.requests` (quorum); each contender in turn passes them on to \
the queues of three substations with confirms, and acknowledges what is confirmed. From the \
first request that has arrived to the last, by RabbitMQ's own count. With the event log, one \
event a request goes to the stream `charge.events` as well (the dispatcher puts several into one \
message where it decides several at once). Each peer's file in `bench/peers/` says what it leaves \
out; none of them makes decisions. The Shovel runs within RabbitMQ, moves all messages to one \
queue, and writes no events. The substations are stand-ins with unlimited capacity: their metrics \
pages, and an event of each every 50 ms, report every job as charging. {sizes}
"""

# A contender: run its program while the context lasts; None if it is a part of RabbitMQ.
# The ports are those of the substations' metrics pages.
Contender = Callable[
    [VirtualHost, Path, Sequence[int]], AbstractAsyncContextManager[Program | None]
]


def _relay(path: str, **variables: str) -> Contender:
    @asynccontextmanager
    async def run(vhost: VirtualHost, folder: Path, _: Sequence[int]) -> AsyncIterator[Program]:
        environment = {"AMQP_URL": vhost.url("dispatcher"), **variables}
        with program("relay", module(path), environment, folder) as running:
            yield running

    return run


def _dispatcher(path: str) -> Contender:
    @asynccontextmanager
    async def run(vhost: VirtualHost, folder: Path, ports: Sequence[int]) -> AsyncIterator[Program]:
        (metrics_port,) = free_ports(1)
        environment = {
            "AMQP_URL": vhost.url("dispatcher"),
            "DISPATCHER_METRICS_PORT": str(metrics_port),
            "SUBSTATIONS_FILE": str(targets(folder, ports)),
            "RESCUE_AFTER_SECONDS": "3600",  # no consumer takes the jobs, and they must stay
        }
        with program("dispatcher", module(path), environment, folder) as running:
            yield running

    return run


@asynccontextmanager
async def _shovel(vhost: VirtualHost, _folder: Path, _: Sequence[int]) -> AsyncIterator[None]:
    uri = vhost.url().replace(f"/{vhost.name}", f"/{quote(vhost.name, safe='')}")
    vhost.broker.request(
        "PUT",
        f"/api/parameters/shovel/{quote(vhost.name, safe='')}/bench",
        {
            "value": {
                "src-protocol": "amqp091",
                "src-uri": uri,
                "src-queue": topology.REQUESTS,
                "src-prefetch-count": 500,
                "dest-protocol": "amqp091",
                "dest-uri": uri,
                "dest-exchange": topology.SUBSTATIONS_EXCHANGE,
                "dest-exchange-key": SUBSTATIONS[0],
                "ack-mode": "on-confirm",
            }
        },
    )
    try:
        yield None
    finally:
        vhost.broker.request("DELETE", f"/api/parameters/shovel/{quote(vhost.name, safe='')}/bench")


CONTENDERS: Final[Mapping[str, Contender]] = {
    PIKA: _relay("bench.peers.pika_relay"),
    PIKA_SILENT: _relay("bench.peers.pika_relay", EVENTS="0"),
    PLAIN: _relay("bench.round_robin"),
    SHOVEL: _shovel,
    OURS: _dispatcher("dispatcher"),
    SILENT: _dispatcher("bench.dispatcher_without_log"),
}


async def measure(broker: RabbitMQ, folder: Path, sizes: Sizes) -> Part:
    """Measure every contender, in turns."""
    rounds: dict[str, list[Mapping[str, float]]] = {name: [] for name in CONTENDERS}
    for names in sizes.turns(list(CONTENDERS)):
        for name in names:
            rounds[name].append(await relay(broker, folder, name, sizes.relayed))
    rows = [Row(name, found) for name, found in rounds.items()]
    table = Table(
        f"{sizes.relayed:,} requests",
        [RATE, CPU, BROKER],
        rows,
        [
            Ratio(RATE, OURS, PIKA),
            Ratio(CPU, OURS, PIKA),
            Ratio(RATE, PLAIN, PIKA),
            Ratio(CPU, PLAIN, PIKA),
            Ratio(RATE, SILENT, PIKA_SILENT),
            Ratio(CPU, SILENT, PIKA_SILENT),
            Ratio(RATE, OURS, SHOVEL),
        ],
        spreads=[RATE, CPU],
    )
    text = TEXT.format(number=sizes.relayed, sizes=sizes.described()).strip()
    return Part("relay", "Relay", text, [table])


async def profile(broker: RabbitMQ, folder: Path, sizes: Sizes) -> list[Table]:
    """Profile the dispatcher while it relays; that run is not timed."""
    with broker.vhost() as vhost:
        await fill(vhost.url(), requests(2 * sizes.relayed))
        stand_ins = StandIns(vhost.url())
        async with (
            stand_ins.running(),
            CONTENDERS[OURS](vhost, folder, stand_ins.ports) as running,
        ):
            assert running is not None  # noqa: S101
            await _moved(stand_ins, running, 1)
            looking = asyncio.create_task(_moved(stand_ins, running, 2 * sizes.relayed))
            try:
                return await profiled("dispatcher", running, sizes.profile_seconds, folder)
            finally:
                looking.cancel()


async def relay(broker: RabbitMQ, folder: Path, name: str, number: int) -> dict[str, float]:
    """Have one contender relay so many requests; return its figures.

    On a busy machine all may have passed before the first look: then again with twice as many.
    """
    for more in (number, 2 * number, 4 * number):
        if (found := await _relayed(broker, folder, name, more)) is not None:
            return found
    raise NotMeasured(f"{name} passed {more} requests on before the first look at them")


async def _relayed(
    broker: RabbitMQ, folder: Path, name: str, number: int
) -> dict[str, float] | None:
    """Relay so many requests; return None if all had passed before the first look."""
    with broker.vhost() as vhost:
        await fill(vhost.url(), requests(number))
        stand_ins = StandIns(vhost.url())
        async with (
            stand_ins.running(),
            CONTENDERS[name](vhost, folder, stand_ins.ports) as running,
        ):
            first = await _moved(stand_ins, running, 1)
            begun = _now(running, broker)
            last = await _moved(stand_ins, running, number)
            ended = _now(running, broker)
    seconds, own, brokers = (after - before for before, after in zip(begun, ended, strict=True))
    if last != number:
        raise NotMeasured(f"{name} passed {last} of {number} requests on, {first} of them at once")
    if first == number:
        return None
    moved = last - first
    found = {RATE: moved / seconds, BROKER: brokers / moved * 1e6}
    return found if running is None else {**found, CPU: own / moved * 1e6}


def _now(running: Program | None, broker: RabbitMQ) -> tuple[float, float, float]:
    """Return the time, and the processor time of a program and of RabbitMQ so far, in seconds."""
    own = 0.0 if running is None else cpu_seconds(running.pid)
    return time.monotonic(), own, cpu_seconds(broker.pid)


async def _moved(stand_ins: StandIns, running: Program | None, least: int) -> int:
    """Wait until at least so many requests have been passed on; return how many have."""
    last, since = -1, time.monotonic()
    while (found := await stand_ins.arrived()) < least:
        if running is not None:
            running.check()
        if found != last:
            last, since = found, time.monotonic()
        elif time.monotonic() - since > STALL_SECONDS:
            log = "" if running is None else running.log_end()
            raise NotMeasured(f"no more than {found} requests were passed on\n{log}")
        await asyncio.sleep(POLL_INTERVAL)
    return found
