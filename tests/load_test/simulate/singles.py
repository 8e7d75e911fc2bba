"""Substations of one connector, simulated in another way, against which the engine is checked.

A queue with one connector needs no events: a job begins when those before it have ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from random import Random
from typing import Final

from load_test.simulate.scenario import Trace
from scheduling.candidates import Candidates
from scheduling.policies import Pick, Policy

SUBSTATIONS: Final = 8
Choice = Callable[[list[int]], int]  # a substation's number, by the gauges as they were read


class Singles:
    """Substations that accept whatever they are sent; all pages are read at the same instant."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._read_next = 0.0
        self._ends: list[deque[float]] = [deque() for _ in range(SUBSTATIONS)]
        self.gauges = [0] * SUBSTATIONS

    def read(self, now: float) -> None:
        """Read the pages that are due."""
        if now < self._read_next:
            return
        last = now // self._period * self._period
        self._read_next = last + self._period
        for number, ends in enumerate(self._ends):
            while ends and ends[0] <= last:
                ends.popleft()
            self.gauges[number] = len(ends)

    def send(self, number: int, now: float, duration: float) -> float:
        """Send a job to a substation; return how long it waits."""
        ends = self._ends[number]
        begin = max(now, ends[-1]) if ends else now
        ends.append(begin + duration)
        return begin - now


def waits(choose: Choice, period: float, trace: Trace) -> Iterator[float]:
    """Return how long each job waits."""
    singles = Singles(period)
    for now, duration in zip(*trace, strict=True):
        singles.read(now)
        yield singles.send(choose(singles.gauges), now, duration)


def round_robin() -> Choice:
    """Return one after the other."""
    turns = count()
    return lambda _: next(turns) % SUBSTATIONS


def by_lot(random: Random) -> Choice:
    """Return any."""
    return lambda _: random.randrange(SUBSTATIONS)


def least_gauge(random: Random) -> Choice:
    """Return any of those with the lowest gauge."""

    def choose(gauges: list[int]) -> int:
        lowest = min(gauges)
        return random.choice([number for number, each in enumerate(gauges) if each == lowest])

    return choose


def again(picks: Iterable[int], allowed: Callable[[list[int], int], bool]) -> Choice:
    """Return what was picked before, each of which must be allowed."""
    rest = iter(picks)

    def choose(gauges: list[int]) -> int:
        number = next(rest)
        assert allowed(gauges, number), f"picked {number} by the gauges {gauges}"
        return number

    return choose


class Recorded:
    """A policy whose picks are recorded."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.picks: list[int] = []

    @property
    def name(self) -> str:
        """Return the policy's name."""
        return self._policy.name

    def pick(self, candidates: Candidates, random: Random) -> Pick:
        """Return the policy's pick."""
        found = self._policy.pick(candidates, random)
        self.picks.append(int(candidates.name(found.number).removeprefix("substation")) - 1)
        return found
