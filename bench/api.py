"""What the api alone costs, compared with routes of the same shape that publish nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from bench import project
from bench.load import CHARGE, Answer, closed_loop, connect, post
from bench.node import RabbitMQ, VirtualHost
from bench.processes import NotMeasured, Program, cpu_seconds, module, program, until_page
from bench.report import Part, Ratio, Row, Table, percentile
from bench.sizes import Sizes
from deploy.local.ports import free_ports

CLIENTS: Final = 20
WARM_UP_SECONDS: Final = 1.0
LIST: Final = 1000
CHARGES: Final = post(
    "/charges",
    [{"vehicle_id": f"EV-{each}", "requested_energy_kwh": 40.5} for each in range(LIST)],
)
RATE, P50, P99, CPU = "requests/s", "p50, ms", "p99, ms", "api CPU ms a request"
BROKER: Final = "RabbitMQ CPU ms a request"
LIST_P50, LIST_CPU = "ms a list", "api CPU µs a request"
OURS, EMPTY = "api", "empty FastAPI routes"
TEXT: Final = (
    "`POST /charge` with `Prefer: respond-async` by {clients} clients that send again as soon as "
    "they are answered, then `POST /charges` with {list:,} requests, one list after another. The "
    "api publishes each with a confirm; no dispatcher runs, so requests stay in `charge.requests`. "
    "The peer: FastAPI routes with the same models that publish nothing "
    "(`bench/peers/empty_api.py`). {sizes}"
)
Start = Callable[[VirtualHost, Path, int], AbstractAsyncContextManager[Program]]


@asynccontextmanager
async def _ours(vhost: VirtualHost, folder: Path, port: int) -> AsyncIterator[Program]:
    with project.api(vhost, folder, port, {}) as running:
        await until_page(port, "/readyz", [running])
        yield running


@asynccontextmanager
async def _empty(_: VirtualHost, folder: Path, port: int) -> AsyncIterator[Program]:
    variables = {"PORT": str(port)}
    with program("empty-api", module("bench.peers.empty_api"), variables, folder) as running:
        await until_page(port, "/openapi.json", [running])
        yield running


CONTENDERS: Final[Mapping[str, Start]] = {EMPTY: _empty, OURS: _ours}


async def measure(broker: RabbitMQ, folder: Path, sizes: Sizes) -> Part:
    """Measure both in turns."""
    single: dict[str, list[Mapping[str, float]]] = {name: [] for name in CONTENDERS}
    lists: dict[str, list[Mapping[str, float]]] = {name: [] for name in CONTENDERS}
    for names in sizes.turns(list(CONTENDERS)):
        for name in names:
            with broker.vhost() as vhost:
                (port,) = free_ports(1)
                async with CONTENDERS[name](vhost, folder, port) as running:
                    single[name].append(await _single(broker, running, port, sizes.closed_seconds))
                    lists[name].append(await _lists(running, port, sizes.list_posts))
    tables = [
        Table(
            "POST /charge",
            [RATE, P50, P99, CPU, BROKER],
            [Row(*each) for each in single.items()],
            [Ratio(RATE, OURS, EMPTY), Ratio(CPU, OURS, EMPTY)],
            spreads=[RATE],
        ),
        Table(
            f"POST /charges of {LIST:,}",
            [LIST_P50, LIST_CPU],
            [Row(*each) for each in lists.items()],
            [Ratio(LIST_P50, OURS, EMPTY), Ratio(LIST_CPU, OURS, EMPTY)],
        ),
    ]
    text = TEXT.format(clients=CLIENTS, list=LIST, sizes=sizes.described())
    return Part("api", "The api", text, tables)


async def _single(
    broker: RabbitMQ, running: Program, port: int, seconds: float
) -> dict[str, float]:
    await closed_loop(port, CHARGE, CLIENTS, WARM_UP_SECONDS)
    before = cpu_seconds(running.pid), cpu_seconds(broker.pid)
    answers = await closed_loop(port, CHARGE, CLIENTS, seconds)
    after = cpu_seconds(running.pid), cpu_seconds(broker.pid)
    took = [1e3 * each.seconds for each in answers]
    own, brokers = (1e3 * (b - a) / len(answers) for a, b in zip(before, after, strict=True))
    _check(answers)
    return {
        RATE: len(answers) / seconds,
        P50: percentile(took, 0.5),
        P99: percentile(took, 0.99),
        CPU: own,
        BROKER: brokers,
    }


async def _lists(running: Program, port: int, number: int) -> dict[str, float]:
    connection = await connect(port)
    _check([await connection.ask(CHARGES)])
    before = cpu_seconds(running.pid)
    answers = [await connection.ask(CHARGES) for _ in range(number)]
    await asyncio.sleep(0.1)  # its work after an answer belongs to the request
    cpu = cpu_seconds(running.pid) - before
    connection.close()
    _check(answers)
    if len(json.loads(answers[0].body)["jobs"]) != LIST:
        raise NotMeasured(f"not {LIST} jobs in the answer: {answers[0].body[:200]!r}")
    took = [1e3 * each.seconds for each in answers]
    return {LIST_P50: percentile(took, 0.5), LIST_CPU: 1e6 * cpu / number / LIST}


def _check(answers: list[Answer]) -> None:
    for each in answers:
        if not each.accepted:
            raise NotMeasured(f"a request was answered {each.status}: {each.body[:300]!r}")
