"""How long one decision of each policy takes: ``python -m bench.policy``; see ``--help``.

A decision is what the scheduler does for each request: ask the table which substations have
capacity, and have a policy pick one. It is compared with the least that plain Python needs: the
lowest utilisation in a list, without a check of eligibility or capacity.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from random import Random
from statistics import median
from time import perf_counter
from typing import Final

from grid.events import Counts
from grid.messages import DEFAULT_POWER_KW
from load_test.simulate.policies import POLICIES
from scheduling.candidates import CandidateTable
from scheduling.load_tracker import LoadTracker
from scheduling.policies import Policy
from scheduling.readings import Reading
from scheduling.substation_state import SubstationState

GOALS: Final = {3: 20.0, 1000: 60.0}  # microseconds a decision, by the number of substations
NOW: Final = 100.0  # when the pages were read, in the tracker's seconds
NAIVE_SHARE: Final = 0.1  # of the decisions: plain Python takes long for a thousand substations
HEADER: Final = (
    "substations  state           policy             µs  one changed   goal    naive  naive ÷ µs"
)


@dataclass(frozen=True, slots=True)
class Times:
    """How often the work is measured: ``decisions`` in a row, ``repeats`` times."""

    decisions: int
    repeats: int

    def median_us(self, work: Callable[[], object]) -> float:
        """Return how long one takes in µs: the median of the repeats' medians, after a warm-up.

        Each is timed alone, so that other work of the machine disturbs only one of them.
        """
        return self.median_of(lambda: _seconds(work))

    def median_of(self, seconds: Callable[[], float]) -> float:
        """Return the same, in µs, of work that returns its own duration in seconds."""
        return median([self._once(seconds) for _ in range(self.repeats + 1)][1:])

    def _once(self, seconds: Callable[[], float]) -> float:
        return median(seconds() for _ in range(self.decisions)) * 1e6


def _seconds(work: Callable[[], object]) -> float:
    begun = perf_counter()
    work()
    return perf_counter() - begun


def equal(_: Random) -> Reading:
    """Return a page of an idle substation like all others."""
    return _page(0, 50, 400, 0)


def mixed(random: Random) -> Reading:
    """Return a page of a substation of random size and load; some are full."""
    connectors = random.choice([10, 20, 50])
    rated = random.choice([None, 150.0, 250.0, 400.0])
    return _page(random.randint(0, connectors), connectors, rated, random.uniform(0, 50))


STATES: Final[dict[str, Callable[[Random], Reading]]] = {
    "idle and equal": equal,
    "mixed": mixed,
}


def _page(load: int, connectors: int, rated: float | None, background: float) -> Reading:
    counts = Counts(load, load, 0, 0, NOW, load * DEFAULT_POWER_KW)
    return Reading(load, connectors, None, rated, background, counts)


def table_of(count: int, page: Callable[[Random], Reading], random: Random) -> CandidateTable:
    """Return the table of so many substations, all of them eligible."""
    tracker = LoadTracker(stale_after=2, default_connectors=50)
    tracker.keep({f"substation{number}": None for number in range(count)})
    for name in tracker.substations:
        reading = page(random)
        tracker.queued(name, 0, 1)
        tracker.read(name, reading, NOW)
        tracker.ask_depth(name)
        tracker.depth(name, 0, NOW)
        tracker.read(name, reading, NOW)
    return CandidateTable(tracker, period=0.5, slow_start=1)


def decide(table: CandidateTable, chooser: Policy, random: Random) -> str | None:
    """Decide once, as the router does."""
    found = table.candidates_for(DEFAULT_POWER_KW, (), NOW)
    if found is None:
        return None
    place, _ = chooser.pick(found, random)
    return found.name(place)


def decide_anew(
    table: CandidateTable, chooser: Policy, random: Random, substations: Iterator[SubstationState]
) -> str | None:
    """Decide once, after a change of one substation since the last time."""
    table.tracker.touch(next(substations))
    return decide(table, chooser, random)


def naive(substations: Sequence[SubstationState], power_kw: float) -> str:
    """Return the substation with the lowest utilisation after placing a request of that power."""

    def after(substation_state: SubstationState) -> float:
        share, rated = (
            (substation_state.load + 1.0) / substation_state.places,
            substation_state.rated_power_kw,
        )
        return max(share, (substation_state.power_kw + power_kw) / rated) if rated else share

    return min(substations, key=after).substation


def measure(count: int, state: str, times: Times) -> Iterator[str]:
    """Measure each policy for so many substations in a state; yield the lines of the table."""
    random = Random(count)  # noqa: S311 - nothing here is secret
    table = table_of(count, STATES[state], random)
    substations = list(table.tracker.substations.values())
    fewer = Times(max(1, int(times.decisions * NAIVE_SHARE)), times.repeats)
    plain = fewer.median_us(partial(naive, substations, DEFAULT_POWER_KW))
    for name in POLICIES:
        chooser = POLICIES[name]()
        still = times.median_us(partial(decide, table, chooser, random))
        anew = times.median_us(partial(decide_anew, table, chooser, random, cycle(substations)))
        yield (
            f"{count:>11}  {state:<14}  {name:<13} {still:>7.1f} {anew:>12.1f} {GOALS[count]:>6.0f}"
            f" {plain:>8.1f} {plain / still:>11.2g}"
        )


def main(arguments: Sequence[str]) -> None:
    """Measure everything, and print it as a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.policy", description=__doc__)
    parser.add_argument("--decisions", type=int, default=500, help="in a row (%(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="of these (%(default)s)")
    options = parser.parse_args(arguments)
    times = Times(max(1, options.decisions), max(1, options.repeats))
    sys.stdout.write(f"{HEADER}\n")
    for count in GOALS:
        for state in STATES:
            for line in measure(count, state, times):
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
