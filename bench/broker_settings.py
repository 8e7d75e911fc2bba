"""The effect of RabbitMQ's own settings on the cost of a job, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.node import UNCHANGED, Change, RabbitMQ, rabbitmq
from bench.patterns import BROKER, CLIENT, RATE, TODAY, at_rate, flowing, saturated
from bench.report import Part, Table, compared
from bench.sizes import Sizes

JOBS_A_SECOND: Final = 100
DEFAULT: Final = "as every node of ours"
AGAIN: Final = "the same once more"  # shows how far from 1 a ratio may be by chance
SLOW, FAST = f"{BROKER}, {JOBS_A_SECOND}/s", f"{BROKER}, 500 under way"
SLOW_OVER, FAST_OVER, RATE_OVER = (
    f"÷ default, {JOBS_A_SECOND}/s",
    "÷ default, 500 under way",
    "jobs/s ÷",
)
CLIENT_COST: Final = f"{CLIENT}, 500 under way"
SETTINGS: Final[Mapping[str, Change]] = {
    "no checksums in quorum queues": Change("quorum_queue.compute_checksums = false"),
    "credit flow 2000, 1000 (400, 200)": Change(
        advanced="[{rabbit, [{credit_flow_default_credit, {2000, 1000}}]}]."
    ),
    "quorum_commands_soft_limit 256 (32)": Change(
        advanced="[{rabbit, [{quorum_commands_soft_limit, 256}]}]."
    ),
    "stream_messages_soft_limit 2048 (256)": Change(
        advanced="[{rabbit, [{stream_messages_soft_limit, 2048}]}]."
    ),
    "statistics each 30 s (5 s)": Change("collect_statistics_interval = 30000"),
    "management.rates_mode none (basic)": Change("management.rates_mode = none"),
    "TCP buffers of 192 KiB": Change(
        # one of these replaces all that RabbitMQ has by default
        "tcp_listen_options.backlog = 128\n"
        "tcp_listen_options.nodelay = true\n"
        "tcp_listen_options.exit_on_close = false\n"
        "tcp_listen_options.linger.on = true\n"
        "tcp_listen_options.linger.timeout = 0\n"
        "tcp_listen_options.sndbuf = 196608\n"
        "tcp_listen_options.recbuf = 196608"
    ),
    "+stbt u (db)": Change(arguments="+stbt u"),
    "+sbwt as Erlang has it (none)": Change(
        arguments="+sbwt medium +sbwtdcpu short +sbwtdio short"
    ),
    "+S 1:1 (a scheduler for each processor)": Change(arguments="+S 1:1"),
    "+swt very_high (medium)": Change(arguments="+swt very_high"),
    "+SDio 1 (10)": Change(arguments="+SDio 1"),
}
TEXT: Final = """\
A node for each setting, the default in parentheses, beside two as every node of ours is \
configured. The load is the messages of a job in today's pattern (`bench/patterns.py`), on each \
node in turn: {rate} jobs/s, then as fast as it goes with 500 under way. Ratios are of the same \
round. {sizes}
"""


async def measure(
    _: RabbitMQ, folder: Path, sizes: Sizes, settings: Mapping[str, Change] = SETTINGS
) -> Part:
    """Measure every setting in turns: all nodes run, and one at a time has work."""
    changes = {DEFAULT: UNCHANGED, AGAIN: UNCHANGED, **settings}
    with _nodes(folder / "nodes", changes) as nodes:
        table = await _compared(nodes, sizes)
    text = TEXT.format(rate=JOBS_A_SECOND, sizes=sizes.described()).strip()
    return Part("broker", "RabbitMQ's settings", text, [table])


@contextmanager
def _nodes(folder: Path, changes: Mapping[str, Change]) -> Iterator[dict[str, RabbitMQ]]:
    folder.mkdir()
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(rabbitmq(folder / str(number), change))
            for number, (name, change) in enumerate(changes.items())
        }


async def _compared(nodes: Mapping[str, RabbitMQ], sizes: Sizes) -> Table:
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in nodes}
    for names in sizes.turns(list(nodes)):
        for name in names:
            found[name].append(await _loaded(nodes[name], sizes))
    ratios = {SLOW_OVER: SLOW, FAST_OVER: FAST, RATE_OVER: RATE}
    return Table(
        "Settings one by one",
        [SLOW, SLOW_OVER, FAST, FAST_OVER, RATE, RATE_OVER, CLIENT_COST],
        compared(found, DEFAULT, ratios),
        spreads=list(ratios),
    )


async def _loaded(node: RabbitMQ, sizes: Sizes) -> dict[str, float]:
    with node.vhost() as vhost:
        async with flowing(vhost, TODAY) as flow:
            number = int(JOBS_A_SECOND * sizes.pattern_seconds)
            slow = await at_rate(vhost, flow, JOBS_A_SECOND, number)
            fast = await saturated(vhost, flow, sizes.pattern_jobs)
    return {SLOW: slow[BROKER], FAST: fast[BROKER], RATE: fast[RATE], CLIENT_COST: fast[CLIENT]}
