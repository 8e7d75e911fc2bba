"""The plan of a run: its schedule and its vehicles. Pure: random generators are arguments.

With generators of the same seed, the same requests are due at the same times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field

from grid import messages
from load_test.plans.schedule import Closed, Schedule, Steady
from load_test.plans.values import Positive, Strict
from load_test.plans.vehicles import Vehicle, mix

if TYPE_CHECKING:
    from random import Random


class Request(NamedTuple):
    """A request of a run; ``offset`` is when it is due, in seconds after the start.

    ``stay_seconds`` is how long after that its vehicle leaves, ``begins_seconds`` how long after
    that it may begin; None if it does not say.
    """

    number: int
    offset: float
    body: Mapping[str, Any]
    stay_seconds: float | None = None
    begins_seconds: float | None = None

    def fields(self, due: float) -> dict[str, Any]:
        """Return the request as it is sent; ``due`` is when that is, in Unix seconds."""
        fields = {**self.body}
        if self.stay_seconds is not None:
            fields["departure_time"] = due + self.stay_seconds
        if self.begins_seconds is not None:
            fields["earliest_start"] = due + self.begins_seconds
        return fields


class Plan(Strict):
    """When requests are sent, and by which vehicles.

    ``speed`` is how many seconds pass for the vehicles in one second, as the substations'
    ``CHARGE_SPEED``: all times of vehicles are divided by it.
    """

    schedule: Schedule = Steady()
    vehicles: Annotated[tuple[Vehicle, ...], Field(min_length=1)] = (Vehicle(),)
    speed: Positive = 1.0
    seed: int = 0

    @property
    def senders(self) -> int | None:
        """Return how many senders a closed loop has; None in an open loop."""
        return self.schedule.senders if isinstance(self.schedule, Closed) else None

    def offsets(self, random: Random) -> Iterator[float]:
        """Yield how many seconds after the start each request is due, in ascending order."""
        return self.schedule.offsets(random)

    def requests(self, arrivals: Random, vehicles: Random) -> Iterator[Request]:
        """Yield the requests, in the order of sending.

        There are two generators, so that the vehicles do not depend on the arrivals.
        """
        due, drawn = self.offsets(arrivals), mix(self.vehicles, vehicles)
        for number, (offset, wanted) in enumerate(zip(due, drawn, strict=False)):
            stay, begins = (
                None if seconds is None else seconds / self.speed
                for seconds in (wanted.stay_seconds, wanted.begins_seconds)
            )
            body, patience = wanted.body, wanted.max_wait_seconds
            if patience is not None:
                body["max_wait_seconds"] = min(patience / self.speed, messages.MAX_WAIT_SECONDS)
            yield Request(number, offset, body, stay, begins)
