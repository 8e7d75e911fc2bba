"""How much is measured: in full, and with ``QUICK=1``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Sizes:
    """How often and how long to measure; times in seconds."""

    quick: bool
    rounds: int
    relayed: int  # requests that wait in ``charge.requests``
    closed_seconds: float  # of load by clients that wait for each answer
    open_seconds: float  # of load at a fixed rate
    rates: tuple[int, ...]  # requests a second
    counted_seconds: float
    list_posts: int  # of 1,000 requests each
    events: int  # that an api reads when it starts
    sessions: int  # at one substation at once
    session_seconds: float
    repeats: int  # of measurements that take microseconds
    profile_seconds: float
    # of jobs at 100 a second; in full, two of RabbitMQ's statistics intervals, so that each round
    # has the same number of them, wherever it begins
    pattern_seconds: float
    pattern_jobs: int  # as fast as they go
    idle_seconds: float
    asks: int  # of each kind

    def described(self) -> str:
        """Return the sizes as a sentence."""
        kind = "Quick run (`QUICK=1`): the figures are rough. " if self.quick else ""
        return f"{kind}{self.rounds} round{'s' if self.rounds > 1 else ''}, medians."

    def turns(self, contenders: Sequence[str]) -> Iterator[Sequence[str]]:
        """Return the order of the contenders for each round: another one begins each time."""
        for number in range(self.rounds):
            first = number % len(contenders)
            yield [*contenders[first:], *contenders[:first]]


FULL: Final = Sizes(
    quick=False,
    rounds=3,
    relayed=50_000,
    closed_seconds=15.0,
    open_seconds=20.0,
    rates=(20, 100, 500),
    counted_seconds=20.0,
    list_posts=20,
    events=1_000_000,
    sessions=20_000,
    session_seconds=30.0,
    repeats=15,
    profile_seconds=15.0,
    pattern_seconds=10.0,
    pattern_jobs=4_000,
    idle_seconds=10.0,
    asks=1_000,
)
QUICK: Final = Sizes(
    quick=True,
    rounds=1,
    relayed=8_000,
    closed_seconds=2.0,
    open_seconds=2.0,
    rates=(20, 100, 500),
    counted_seconds=3.0,
    list_posts=2,
    events=50_000,
    sessions=2_000,
    session_seconds=4.0,
    repeats=3,
    profile_seconds=2.0,
    pattern_seconds=1.0,
    pattern_jobs=500,
    idle_seconds=4.0,
    asks=300,
)
