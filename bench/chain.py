"""What a request costs from the client to the session, all services together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from bench.chains import CHARGE_SECONDS, CONNECTORS, SUBSTATIONS_SHOWN, Start, ours, plain
from bench.load import CHARGE, Answer, closed_loop, open_loop, waits
from bench.node import RabbitMQ, VirtualHost
from bench.processes import NotMeasured, cpu_seconds
from bench.queues import ready, up
from bench.report import Part, Ratio, Row, Table, percentile
from bench.sizes import Sizes
from grid.amqp import Declarer

CLIENTS: Final = 50
WARM_UP_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 120.0
OURS, PLAIN = "the project", "plain chain on aio-pika"
CHAINS: Final[Mapping[str, Start]] = {PLAIN: plain, OURS: ours}

RATE, FAILED = "requests/s", "not accepted, %"
P50, P99 = "answer p50, ms", "answer p99, ms"
BEGUN_50, BEGUN_99 = "to charging p50, ms", "to charging p99, ms"
BROKER, SUM, CLIENT = "RabbitMQ", "sum", "CPU client"
Send = Callable[[int], Awaitable[list[Answer]]]
PROCESSES: Final = ("api", "dispatcher", SUBSTATIONS_SHOWN)
TEXT: Final = """\
FastAPI, a quorum queue, a relay, and three workers that sleep {seconds:g} s and acknowledge: \
the project, and the same written plainly on aio-pika with confirms (`bench/peers/plain_*.py`, \
which say what they leave out: decisions, the event log, metrics and more). `POST /charge` with \
`Prefer: respond-async`. Each substation has {connectors} connectors. First requests at a fixed \
rate, where an answer counts from the moment at which its request was due; then {clients} \
clients that send again as soon as they are answered. Processor time is in ms a request, of the \
api, of the dispatcher or relay, of the three substations or workers together, and of RabbitMQ, \
until all sessions have ended. {sizes}
"""


async def measure(broker: RabbitMQ, folder: Path, sizes: Sizes) -> Part:
    """Measure both chains in turns, at each rate and in a closed loop."""
    loads: dict[str, Send] = {
        **{
            f"{rate} requests/s, open loop": partial(
                open_loop, request=CHARGE, rate=rate, seconds=sizes.open_seconds
            )
            for rate in sizes.rates
        },
        f"{CLIENTS} clients, closed loop": partial(
            closed_loop, request=CHARGE, clients=CLIENTS, seconds=sizes.closed_seconds
        ),
    }
    found: dict[str, dict[str, list[Mapping[str, float]]]] = {
        load: {name: [] for name in CHAINS} for load in loads
    }
    for names in sizes.turns(list(CHAINS)):
        for name in names:
            with broker.vhost() as vhost:
                measured = await _loaded(vhost, folder, CHAINS[name], loads)
                for load, figures_of_load in measured.items():
                    found[load][name].append(figures_of_load)
    tables = [_table(load, rows) for load, rows in found.items()]
    text = TEXT.format(
        seconds=CHARGE_SECONDS, connectors=CONNECTORS, clients=CLIENTS, sizes=sizes.described()
    ).strip()
    return Part("chain", "The whole chain", text, tables)


def _table(load: str, rows: Mapping[str, list[Mapping[str, float]]]) -> Table:
    columns = [
        *(RATE, FAILED, P50, P99, BEGUN_50, BEGUN_99),
        *(f"CPU {name}" for name in (*PROCESSES, BROKER, SUM)),
        CLIENT,
    ]
    ratios = [Ratio(RATE, OURS, PLAIN), Ratio(P99, OURS, PLAIN), Ratio(f"CPU {SUM}", OURS, PLAIN)]
    return Table(load, columns, [Row(*each) for each in rows.items()], ratios)


async def _loaded(
    vhost: VirtualHost, folder: Path, start: Start, loads: Mapping[str, Send]
) -> dict[str, Mapping[str, float]]:
    """Start a chain, send it one load after the other, and return the figures of each."""
    declarer = Declarer("bench-queues", [vhost.url()], lambda *_: None)
    async with start(vhost, folder) as chain, up(declarer):
        await closed_loop(chain.port, CHARGE, 2, WARM_UP_SECONDS)
        groups = {
            **{name: [each.pid for each in some] for name, some in chain.shown().items()},
            BROKER: [vhost.broker.pid],
        }
        answers: dict[str, list[Answer]] = {}
        costs: dict[str, dict[str, float]] = {}
        clients: dict[str, float] = {}
        for load, send in loads.items():
            await _drained(declarer)
            before, own = _cpu(groups), time.process_time()
            answers[load] = await send(chain.port)
            clients[load] = time.process_time() - own
            await _drained(declarer)
            after = _cpu(groups)
            costs[load] = {name: after[name] - before[name] for name in groups}
        began = chain.began()
    return {
        load: {
            **figures(answers[load], began, costs[load]),
            CLIENT: 1e3 * clients[load] / len(answers[load]),
        }
        for load in loads
    }


def figures(
    answers: list[Answer], began: dict[str, float], cpu: Mapping[str, float]
) -> dict[str, float]:
    """Return the figures of one load; ``cpu`` is in seconds."""
    accepted = [each for each in answers if each.accepted]
    if not accepted:
        raise NotMeasured(f"no request was accepted: {answers[0].body[:300]!r}")
    seconds = max(each.answered for each in answers) - min(each.due for each in answers)
    took = [1e3 * each.seconds for each in accepted]
    begun = [1e3 * each for each in waits(accepted, began)]
    costs = {f"CPU {name}": 1e3 * each / len(accepted) for name, each in cpu.items()}
    return {
        RATE: len(accepted) / seconds,
        FAILED: 100 * (len(answers) - len(accepted)) / len(answers),
        P50: percentile(took, 0.5),
        P99: percentile(took, 0.99),
        BEGUN_50: percentile(begun, 0.5),
        BEGUN_99: percentile(begun, 0.99),
        **costs,
        f"CPU {SUM}": sum(costs.values()),
    }


def _cpu(groups: Mapping[str, list[int]]) -> dict[str, float]:
    return {name: sum(map(cpu_seconds, pids)) for name, pids in groups.items()}


async def _drained(declarer: Declarer) -> None:
    """Wait until every queue is empty, and the sessions that were started have ended."""
    async with asyncio.timeout(DRAIN_SECONDS):
        while await ready(declarer):  # noqa: ASYNC110 - RabbitMQ has no event for this
            await asyncio.sleep(0.1)
    await asyncio.sleep(5 * CHARGE_SECONDS)
