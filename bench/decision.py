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
from grid.events import Counts
from grid.messages import DEFAULT_POWER_KW
from scheduling.candidates import CandidateTable
from scheduling.connectors import free_at
from scheduling.order import ORDERS, Order, Requirements
from scheduling.policies import DEFAULT, POLICIES, Policy
from scheduling.readings import Reading
from scheduling.scheduler import Scheduler
from scheduling.wait_queue import WaitQueue

COUNTS: Final = (3, 100, 1_000, 10_000)
DECISIONS: Final = 200  # in a row
STATE: Final = "mixed"
STILL, ANEW, NAIVE = "µs a decision", "µs, one substation changed", "µs, plain Python"
ASSIGNED: Final = "µs, a job assigned, with its explanation"
WAITING: Final = 1_000  # jobs, all with a departure
CONNECTORS: Final = 30  # on three substations
SESSION: Final = 7_200.0  # seconds
DECISIONS_A_SECOND: Final = 100
IN_ORDER: Final = "µs a decision"


async def measure(_: RabbitMQ, _folder: Path, sizes: Sizes) -> Part:
    """Time decisions by the default policy."""
    rows = [Row(f"{each:,} substations", [decided(each, sizes.repeats)]) for each in COUNTS]
    text = (
        f"One decision of the policy `{DEFAULT}` among substations of any size and load, some of "
        "them full; the same after a change of one of them; a pass over a wait queue of one job, "
        "which is assigned, explained, counted and undone; and the lowest utilisation of a list, "
        "found in plain Python without a check of eligibility. "
        f"Medians of {sizes.repeats} times {DECISIONS}. `python -m bench.policy` has every policy. "
        f"Below: {WAITING:,} jobs with departures wait for {CONNECTORS} connectors; "
        f"{DECISIONS_A_SECOND} times a second one comes, and a connector becomes free. The mean, "
        "with what the order plans meanwhile."
    )
    orders = [Row(name, [in_order(order(), sizes.repeats)]) for name, order in ORDERS.items()]
    return Part(
        "decision",
        "A decision",
        text,
        [
            Table("By substations", [STILL, ANEW, ASSIGNED, NAIVE], rows),
            Table(f"By order, {WAITING:,} jobs waiting", [IN_ORDER], orders),
        ],
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


def in_order(order: Order, repeats: int) -> dict[str, float]:
    """Return the mean time of a decision while very many jobs wait in that order."""
    waiting = Waiting(order)
    times = Times(1, repeats).median_us(waiting.decide)
    return {IN_ORDER: times / DECISIONS}


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


class Waiting:
    """Very many jobs that wait, and one connector that becomes free again and again."""

    def __init__(self, order: Order) -> None:
        random = Random(WAITING)  # noqa: S311 - nothing here is secret
        table = table_of(3, lambda _: _full(CONNECTORS // 3), random)
        self._tracker = table.tracker
        self._random = random
        self._scheduler: Scheduler[_Job] = Scheduler(table, POLICIES[DEFAULT](), random)
        self._queue: WaitQueue[_Job] = WaitQueue(order)
        self._number = 0
        self._clock = 1_000_000.0
        connectors = [random.uniform(0, SESSION) for _ in range(CONNECTORS)]
        self._ends = {
            name: [self._clock + each for each in connectors[number::3]]
            for number, name in enumerate(table.tracker.substations)
        }
        for _ in range(WAITING):
            self._come()
        self._free()

    def decide(self) -> None:
        """Decide many times in a row."""
        for _ in range(DECISIONS):
            self._clock += 1 / DECISIONS_A_SECOND
            self._come()
            if self._queue.is_due(self._clock):
                count = len(self._queue)
                free = free_at(self._tracker, self._ends, count, now=NOW, clock=self._clock)
                self._queue.arrange(free, self._clock)
            (assignment,) = self._scheduler.schedule(self._queue, NOW)
            self._tracker.undo(assignment.substation)

    def _come(self) -> None:
        self._number += 1
        seconds = self._random.uniform(0.2, 2.0) * SESSION
        departs = self._clock + seconds + self._random.uniform(0, 20) * SESSION
        rank = (0.0, departs - seconds, self._clock, f"job{self._number}")
        self._queue.add(_Job(Requirements(rank, (), DEFAULT_POWER_KW, departs, seconds)))

    def _free(self) -> None:
        """Have the session of one connector end."""
        name = next(iter(self._tracker.substations))
        self._ends[name].pop()
        load = CONNECTORS // 3 - 1
        self._tracker.report(name, Counts(load, load + 1, 1, 0, NOW, load * DEFAULT_POWER_KW))


def _full(connectors: int) -> Reading:
    counts = Counts(connectors, connectors, 0, 0, NOW, connectors * DEFAULT_POWER_KW)
    return Reading(connectors, connectors, counts=counts, session_seconds=SESSION)
