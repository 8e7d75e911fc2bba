"""Schedules: when each request of a run is due. Pure: the random generator is an argument.

All but ``closed`` are open-loop: a request is due at its time whether or not earlier ones were
answered, and its latency counts from then. So an answer that is late delays none that come after,
and no wait is omitted because the one before it was long (coordinated omission).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import count, islice
from math import inf, sqrt
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, Self, TypeAlias

from pydantic import Field, model_validator

from load_test.plans.values import Count, Duration, Moment, Rate, Strict

if TYPE_CHECKING:
    from random import Random

DEFAULT_RATE: Final = 2.0
DEFAULT_REQUESTS: Final = 100

Spacing: TypeAlias = Literal["even", "random"]


class Stretch(NamedTuple):
    """A stretch of time in which the rate, in requests a second, rises or falls evenly."""

    seconds: float
    begin: float
    end: float

    @property
    def requests(self) -> float:
        """Return how many requests are due in it on average."""
        return self.seconds * (self.begin + self.end) / 2

    def reached(self, requests: float) -> float:
        """Return after how many seconds so many requests are due."""
        if requests <= 0:
            return 0.0
        rise = (self.end - self.begin) / self.seconds
        return 2 * requests / (self.begin + sqrt(max(0.0, self.begin**2 + 2 * rise * requests)))


class Steady(Strict):
    """So many requests at one rate, evenly spaced."""

    kind: Literal["steady"] = "steady"
    requests: Count = DEFAULT_REQUESTS
    rate: Rate = DEFAULT_RATE

    def offsets(self, random: Random) -> Iterator[float]:  # noqa: ARG002  # as the others
        """Yield when each request is due, in seconds after the start."""
        return (number / self.rate for number in range(self.requests))


class Poisson(Strict):
    """So many requests at one rate on average, at random."""

    kind: Literal["poisson"] = "poisson"
    requests: Count = DEFAULT_REQUESTS
    rate: Rate = DEFAULT_RATE

    def offsets(self, random: Random) -> Iterator[float]:
        """Yield when each request is due, in seconds after the start."""
        return islice(_arrivals(random, self.rate), self.requests)


class _Profile(Strict, ABC):
    """The base of schedules whose rate follows a profile."""

    spacing: Spacing = "random"

    @abstractmethod
    def profile(self) -> Sequence[Stretch]:
        """Return the rate over time."""

    def offsets(self, random: Random) -> Iterator[float]:
        """Yield when each request is due, in seconds after the start."""
        return _along(self.profile(), random if self.spacing == "random" else None)


class Sustained(_Profile):
    """One rate for long, after a rise to it."""

    kind: Literal["sustained"] = "sustained"
    rate: Rate = 10.0
    seconds: Duration = 600.0
    ramp_seconds: Moment = 30.0

    def profile(self) -> Sequence[Stretch]:
        """Return the rate over time."""
        return (
            Stretch(self.ramp_seconds, 0.0, self.rate),
            Stretch(self.seconds, self.rate, self.rate),
        )


class RushHour(_Profile):
    """A base rate that rises to a peak, and falls again, within a fifth and four fifths."""

    kind: Literal["rush-hour"] = "rush-hour"
    rate: Rate = DEFAULT_RATE
    peak_rate: Rate = 10.0
    seconds: Duration = 300.0

    def profile(self) -> Sequence[Stretch]:
        """Return the rate over time."""
        quiet, busy = 0.2 * self.seconds, 0.3 * self.seconds
        return (
            Stretch(quiet, self.rate, self.rate),
            Stretch(busy, self.rate, self.peak_rate),
            Stretch(busy, self.peak_rate, self.rate),
            Stretch(quiet, self.rate, self.rate),
        )


class Spike(_Profile):
    """A base rate, and a much higher one for a moment."""

    kind: Literal["spike"] = "spike"
    rate: Rate = DEFAULT_RATE
    spike_rate: Rate = 50.0
    spike_at: Moment = 20.0
    spike_seconds: Duration = 5.0
    seconds: Duration = 60.0

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.spike_at + self.spike_seconds > self.seconds:
            raise ValueError(
                f"must end after the spike: spike_at {self.spike_at:g} s and spike_seconds "
                f"{self.spike_seconds:g} s are beyond seconds {self.seconds:g} s"
            )
        return self

    def profile(self) -> Sequence[Stretch]:
        """Return the rate over time."""
        rest = self.seconds - self.spike_at - self.spike_seconds
        return (
            Stretch(self.spike_at, self.rate, self.rate),
            Stretch(self.spike_seconds, self.spike_rate, self.spike_rate),
            Stretch(rest, self.rate, self.rate),
        )


class Closed(Strict):
    """A closed loop: so many senders, each sends again once it was answered.

    All requests are due at once: the answers set the pace, and latencies count from the sending.
    """

    kind: Literal["closed"] = "closed"
    requests: Count = DEFAULT_REQUESTS
    senders: Count = 10

    def offsets(self, random: Random) -> Iterator[float]:  # noqa: ARG002  # as the others
        """Yield when each request is due, in seconds after the start."""
        return (0.0 for _ in range(self.requests))


Schedule = Annotated[
    Steady | Poisson | Sustained | RushHour | Spike | Closed, Field(discriminator="kind")
]
SCHEDULES: Final[dict[str, type[Steady | Poisson | Sustained | RushHour | Spike | Closed]]] = {
    "steady": Steady,
    "rush-hour": RushHour,
    "spike": Spike,
    "sustained": Sustained,
    "poisson": Poisson,
    "closed": Closed,
}


def _along(profile: Sequence[Stretch], random: Random | None) -> Iterator[float]:
    """Yield arrivals along a profile: evenly, or as a Poisson process of that rate.

    A request is due whenever the integral of the rate reaches the next whole number, or the next
    sum of exponential steps of mean 1.
    """
    due = (float(number) for number in count()) if random is None else _arrivals(random, 1.0)
    wanted = next(due, inf)
    begun, before = 0.0, 0.0  # seconds and requests before this stretch
    for stretch in profile:
        while wanted < before + stretch.requests:
            yield begun + stretch.reached(wanted - before)
            wanted = next(due, inf)
        begun, before = begun + stretch.seconds, before + stretch.requests


def _arrivals(random: Random, rate: float) -> Iterator[float]:
    """Yield the times of a Poisson process, without an end."""
    at = 0.0
    while True:
        at += random.expovariate(rate)
        yield at
