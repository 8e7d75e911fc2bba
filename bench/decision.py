"""The time of a decision with few and with very many substations; all policies: bench.policy."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Final

from bench.node import RabbitMQ
from bench.policy import STATES, Times, decide, decide_anew, fleet_of, naive
from bench.report import Part, Row, Table
from bench.sizes import Sizes
from grid.messages import DEFAULT_POWER_KW
from scheduling.policies import DEFAULT, POLICIES

COUNTS: Final = (3, 100, 1_000, 10_000)
DECISIONS: Final = 200  # in a row
STATE: Final = "mixed"
STILL, ANEW, NAIVE = "µs a decision", "µs, one substation changed", "µs, plain Python"


async def measure(_: RabbitMQ, _folder: Path, sizes: Sizes) -> Part:
    """Time decisions by the default policy."""
    rows = [Row(f"{each:,} substations", [decided(each, sizes.repeats)]) for each in COUNTS]
    text = (
        f"One decision of the policy `{DEFAULT}` among substations of any size and load, some of "
        "them full; the same where something was heard of one of them since the last; and the "
        "lowest utilisation of a list, found in plain Python without a look at who may be used. "
        f"Medians of {sizes.repeats} times {DECISIONS}. `python -m bench.policy` has every policy."
    )
    return Part(
        "decision", "A decision", text, [Table("By substations", [STILL, ANEW, NAIVE], rows)]
    )


def decided(count: int, repeats: int) -> dict[str, float]:
    """Return the figures for so many substations."""
    random = Random(count)  # noqa: S311 - nothing here is secret
    times = Times(DECISIONS, repeats)
    table = fleet_of(count, STATES[STATE], random)
    substations = list(table.tracker.substations.values())
    chooser = POLICIES[DEFAULT]()
    return {
        STILL: times.median_us(partial(decide, table, chooser, random)),
        ANEW: times.median_us(partial(decide_anew, table, chooser, random, cycle(substations))),
        NAIVE: Times(5, repeats).median_us(partial(naive, substations, DEFAULT_POWER_KW)),
    }
