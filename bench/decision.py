"""The time of a decision with few and with very many substations; all policies: bench.policy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import cycle
from math import inf
from pathlib import Path
from random import Random
from typing import Final

from bench.node import RabbitMQ
from bench.policy import NOW, STATES, Times, decide, decide_anew, naive, table_of
from bench.report import Part, Row, Table
from bench.sizes import Sizes
from grid.messages import DEFAULT_POWER_KW
from scheduling.candidates import CandidateTable
from scheduling.order import Requirements
from scheduling.policies import DEFAULT, POLICIES, Policy
from scheduling.scheduler import Scheduler
from scheduling.wait_queue import WaitQueue

COUNTS: Final = (3, 100, 1_000, 10_000)
DECISIONS: Final = 200  # in a row
STATE: Final = "mixed"
STILL, ANEW, NAIVE = "µs a decision", "µs, one substation changed", "µs, plain Python"
ASSIGNED: Final = "µs, a job assigned, with its explanation"


async def measure(_: RabbitMQ, _folder: Path, sizes: Sizes) -> Part:
    """Time decisions by the default policy."""
    rows = [Row(f"{each:,} substations", [decided(each, sizes.repeats)]) for each in COUNTS]
    text = (
        f"One decision of the policy `{DEFAULT}` among substations of any size and load, some of "
        "them full; the same after a change of one of them; a pass over a wait queue of one job, "
        "which is assigned, explained, counted and undone; and the lowest utilisation of a list, "
        "found in plain Python without a check of eligibility. "
        f"Medians of {sizes.repeats} times {DECISIONS}. `python -m bench.policy` has every policy."
    )
    return Part(
        "decision",
        "A decision",
        text,
        [Table("By substations", [STILL, ANEW, ASSIGNED, NAIVE], rows)],
    )


def decided(count: int, repeats: int) -> dict[str, float]:
    """Return the figures for so many substations."""
    random = Random(count)  # noqa: S311 - nothing here is secret
    times = Times(DECISIONS, repeats)
    table = table_of(count, STATES[STATE], random)
    substations = list(table.tracker.substations.values())
    chooser = POLICIES[DEFAULT]()
    return {
        STILL: times.median_us(partial(decide, table, chooser, random)),
        ANEW: times.median_us(partial(decide_anew, table, chooser, random, cycle(substations))),
        ASSIGNED: times.median_us(Pass(table, chooser, random).assign),
        NAIVE: Times(5, repeats).median_us(partial(naive, substations, DEFAULT_POWER_KW)),
    }


@dataclass(frozen=True, eq=False)
class _Job:
    requirements: Requirements


class Pass:
    """A pass of the scheduler over a wait queue of one job, again and again the same."""

    def __init__(self, table: CandidateTable, chooser: Policy, random: Random) -> None:
        self._tracker = table.tracker
        self._scheduler: Scheduler[_Job] = Scheduler(table, chooser, random)
        self._queue: WaitQueue[_Job] = WaitQueue()
        self._job = _Job(Requirements((0.0, inf, 0.0, ""), (), DEFAULT_POWER_KW, inf))

    def assign(self) -> None:
        """Assign the job, and take it back."""
        self._queue.add(self._job)
        for assignment in self._scheduler.schedule(self._queue, NOW):
            self._tracker.undo(assignment.substation)
        self._queue.pop_last(1)
