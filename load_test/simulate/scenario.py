"""What is simulated: the substations, the arrivals, and what is known of them when. Pure.

Times are in seconds of virtual time; the random generator is an argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from grid.errors import ConfigurationError

if TYPE_CHECKING:
    from random import Random


class Trace(NamedTuple):
    """When each job arrives, in ascending order, and how long it charges, in seconds."""

    arrivals: list[float]
    durations: list[float]


class Site(NamedTuple):
    """A substation that is a copy of a real one; powers in kW, what is unknown is None.

    ``limit`` is the most sessions that an operator allows.
    """

    name: str
    connectors: int
    rated_power_kw: float | None = None
    background_power_kw: float | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Durations:
    """How long sessions take: exponential of mean ``low``, or uniform from ``low`` to ``high``."""

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.low <= (self.high or self.low) and isfinite(self.high or self.low)):
            raise ConfigurationError(f"durations must be above 0, and rise, got {self}")

    @property
    def mean(self) -> float:
        """Return the mean session time, in seconds."""
        return self.low if self.high is None else (self.low + self.high) / 2

    def draw(self, random: Random) -> float:
        """Return one session's duration, in seconds."""
        if self.high is None:
            return random.expovariate(1 / self.low)
        return random.uniform(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Demand:
    """``jobs`` jobs that keep the connectors busy for ``utilisation`` of the time on average.

    They arrive in bursts of ``burst`` at one instant; the bursts are a Poisson process.
    """

    jobs: int
    utilisation: float
    durations: Durations
    burst: int = 1

    def __post_init__(self) -> None:
        if self.jobs < 1 or self.burst < 1:
            raise ConfigurationError(f"jobs and burst must be at least 1, got {self}")
        check_utilisation(self.utilisation)

    @property
    def session(self) -> float:
        """Return the mean session time, in seconds."""
        return self.durations.mean

    @property
    def stays(self) -> None:
        """Return None: all vehicles stay until they are charged."""

    def as_json(self) -> dict[str, Any]:
        """Return its parameters, ready for JSON."""
        return {**asdict(self), "session_seconds": self.session}

    def trace(self, connectors: int, random: Random) -> Trace:
        """Return random arrivals and durations for so many connectors in all."""
        arrivals = list(islice(self._arrivals(connectors, random), self.jobs))
        return Trace(arrivals, [self.durations.draw(random) for _ in arrivals])

    def _arrivals(self, connectors: int, random: Random) -> Iterator[float]:
        bursts_a_second = self.utilisation * connectors / self.durations.mean / self.burst
        now = 0.0
        while True:
            now += random.expovariate(bursts_a_second)
            for _ in range(self.burst):
                yield now


def check_utilisation(utilisation: float, below: float = 1.0) -> None:
    """Raise ``ConfigurationError`` for a utilisation that has no mean wait."""
    if not 0 < utilisation < below:
        raise ConfigurationError(
            f"utilisation must be above 0 and below 1, got {utilisation:g}: "
            "at 1 and above there is no mean wait"
        )


class Outage(NamedTuple):
    """An outage of the substation of that index, from ``at`` to ``back``.

    What it charged returns to its queue, and is charged from the beginning once it is back.
    """

    substation: int
    at: float
    back: float


_TIMES: Final = (
    "period", "page_latency", "event_latency", "request_latency", "dispatch_latency",
)  # fmt: skip
_COPY: Final = frozenset({"period", "request_latency", "dispatch_latency"})


@dataclass(frozen=True, slots=True)
class Setting:
    """The substations, and what the dispatcher learns of them.

    ``connectors`` has one number for each substation. A page is read every ``period``, each
    substation's at its own phase or all ``in_step``, and arrives ``page_latency`` later; with a
    period of 0 every change is read at once. Events arrive ``event_latency`` after what they report
    or, if it is None, never. With ``counters`` a page has the session counters and its gauge counts
    sessions; without, a substation accepts whatever it is sent, and its gauge counts all of that.
    With ``waits`` requests wait centrally while all is full; without, each is sent at once. With
    ``send_ahead``, while many wait, one job is dispatched ahead to each full substation. With
    ``power`` each reports the power its sessions draw, and its rated power: enough for all at once.
    A job is known to the dispatcher ``request_latency`` after its arrival, and is in a substation's
    queue ``dispatch_latency`` after it was sent there.
    """

    connectors: tuple[int, ...]
    period: float
    event_latency: float | None = 0.01
    page_latency: float = 0.0
    counters: bool = True
    waits: bool = True
    send_ahead: bool = True
    in_step: bool = False
    power: bool = False
    outages: tuple[Outage, ...] = ()
    request_latency: float = 0.0
    dispatch_latency: float = 0.0

    def __post_init__(self) -> None:
        if not self.connectors or min(self.connectors) < 1:
            raise ConfigurationError(f"each substation has a connector or more: {self.connectors}")
        for name in _TIMES:
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value >= 0):
                raise ConfigurationError(f"{name} must be 0 s or more, got {value}")
        for outage in self.outages:
            known = 0 <= outage.substation < len(self.connectors)
            if not (known and 0 <= outage.at < outage.back and isfinite(outage.back)):
                raise ConfigurationError(
                    f"an outage needs a known substation and an end after its start, got {outage}"
                )
        for one, other in pairwise(sorted(self.outages)):
            if one.substation == other.substation and other.at <= one.back:
                raise ConfigurationError(
                    f"one outage of a substation must be over before the next: {one}, {other}"
                )

    def as_json(self) -> dict[str, Any]:
        """Return what a comparison of policies sets, ready for JSON.

        All but the period, and the latencies of a real system; substations are numbered from 1.
        """
        values = {name: value for name, value in asdict(self).items() if name not in _COPY}
        outages = [{**each._asdict(), "substation": each.substation + 1} for each in self.outages]
        return values | {"outages": outages}
