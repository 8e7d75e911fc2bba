"""The mix of vehicles: what each request asks for. Pure: the random generator is an argument."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, Self

from pydantic import Field, model_validator

from grid import messages
from load_test.plans.values import Positive, Range, Strict

if TYPE_CHECKING:
    from random import Random

MINUTE: Final = 60.0
_ENERGY_KWH: Final = (10.0, 60.0)  # a top-up on the way to a nearly empty family car


class Vehicle(Strict):
    """A kind of vehicle, and its share of the mix; shares need not add up to anything.

    Each range is a number, or the lowest and the highest of numbers drawn evenly. A vehicle leaves
    ``stay_minutes`` after its request is due, and one without says nothing of when it leaves. Its
    job does not begin before ``begins_after_minutes``, and ends if it has not begun
    ``max_wait_minutes`` later; with ``reserve``, it asks for a start that is promised.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_ -]{0,39}$")] = "EV"
    share: Positive = 1.0
    energy_kwh: Range | None = _ENERGY_KWH
    power_kw: Range | None = None
    stay_minutes: Range | None = None
    max_wait_minutes: Positive | None = None
    begins_after_minutes: Range | None = None
    reserve: Annotated[bool, Field(strict=True)] = False
    priority: Annotated[int, Field(ge=0, le=messages.MAX_PRIORITY, strict=True)] = 0
    eligible_substations: tuple[
        Annotated[str, Field(pattern=messages.SUBSTATION_PATTERN)], ...
    ] = ()
    tenant: Annotated[str, Field(pattern=messages.ID_PATTERN)] | None = None

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        begins, stays = self.begins_after_minutes, self.stay_minutes
        if begins is not None and stays is not None and begins[1] >= stays[0]:
            raise ValueError("begins_after_minutes must be below stay_minutes")
        return self

    def wanted(self, number: int, random: Random) -> Wanted:
        """Return what the vehicle of that number asks for."""
        body: dict[str, Any] = {"vehicle_id": f"{self.name}-{number:06d}"}
        if self.energy_kwh is not None:
            body["requested_energy_kwh"] = _drawn(self.energy_kwh, random)
        if self.power_kw is not None:
            body["requested_power_kw"] = _drawn(self.power_kw, random)
        if self.priority:
            body["priority"] = self.priority
        if self.eligible_substations:
            body["eligible_substations"] = list(self.eligible_substations)
        if self.tenant is not None:
            body["tenant"] = self.tenant
        stay = None if self.stay_minutes is None else random.uniform(*self.stay_minutes)
        if self.reserve:
            body["reserve"] = True
        after = self.begins_after_minutes
        begins = None if after is None else random.uniform(*after)
        return Wanted(body, _seconds(stay), _seconds(self.max_wait_minutes), _seconds(begins))


class Wanted(NamedTuple):
    """The JSON-ready fields of a request, and its times in the vehicle's seconds, if it says them.

    ``stay_seconds`` is how long the vehicle stays, ``max_wait_seconds`` how long its job may wait,
    ``begins_seconds`` after how long it may begin.
    """

    body: dict[str, Any]
    stay_seconds: float | None
    max_wait_seconds: float | None
    begins_seconds: float | None


def mix(vehicles: Sequence[Vehicle], random: Random) -> Iterator[Wanted]:
    """Yield what one vehicle after the other asks for, without an end."""
    shares = [each.share for each in vehicles]
    number = 0
    while True:
        number += 1
        only_one = len(vehicles) == 1
        kind = vehicles[0] if only_one else random.choices(vehicles, shares)[0]
        yield kind.wanted(number, random)


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else minutes * MINUTE


def _drawn(between: tuple[float, float], random: Random) -> float:
    """Draw a number to one decimal, never 0 for being small."""
    drawn = random.uniform(*between)
    return round(drawn, 1) or drawn
