"""The plan of a run: how many requests, when each is due, and what each asks for.

Pure: the random generator is an argument, so that the same seed leads to the same run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from grid.errors import ConfigurationError

if TYPE_CHECKING:
    from random import Random

DEFAULT_RATE: Final = 2.0
_ENERGY_KWH: Final = (10.0, 60.0)  # a top-up on the way to a nearly empty family car


@dataclass(frozen=True, slots=True)
class Plan:
    """``requests`` requests, either at ``rate`` a second or by ``concurrency`` senders at once.

    At a rate, each is sent when it is due, whether or not earlier ones were answered; ``poisson``
    draws the gaps at random instead of keeping them even. With a concurrency, each sender sends its
    next request as soon as its last was answered. The constructor raises ``ConfigurationError`` for
    a plan that cannot be carried out.
    """

    requests: int
    rate: float | None = None
    concurrency: int | None = None
    poisson: bool = False

    def __post_init__(self) -> None:
        if self.requests < 1:
            raise ConfigurationError(f"requests must be at least 1, got {self.requests}")
        if (self.rate is None) == (self.concurrency is None):
            raise ConfigurationError("give either a rate or a concurrency, and not both")
        if self.rate is not None and not (isfinite(self.rate) and self.rate > 0):
            raise ConfigurationError(f"rate must be above 0 a second, got {self.rate:g}")
        if self.concurrency is not None and self.concurrency < 1:
            raise ConfigurationError(f"concurrency must be at least 1, got {self.concurrency}")
        if self.poisson and self.rate is None:
            raise ConfigurationError("Poisson arrivals need a rate")


def offsets(plan: Plan, random: Random) -> Iterator[float]:
    """Yield how many seconds after the start each request is due, in ascending order.

    With a concurrency all are due at once: the answers set the pace.
    """
    due = 0.0
    for number in range(plan.requests):
        if plan.rate is None:
            yield 0.0
        elif plan.poisson:
            due += random.expovariate(plan.rate)
            yield due
        else:
            yield number / plan.rate


def bodies(plan: Plan, random: Random) -> Iterator[dict[str, Any]]:
    """Yield the JSON-ready fields of each request, in the order of sending."""
    for number in range(1, plan.requests + 1):
        energy = round(random.uniform(*_ENERGY_KWH), 1)
        yield {"vehicle_id": f"EV-{number:06d}", "requested_energy_kwh": energy}
