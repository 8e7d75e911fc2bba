"""The settings of a substation."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from grid.messages import SUBSTATION_PATTERN
from grid.settings import Port, Seconds, Settings

Kilowatts = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SubstationSettings(Settings):
    """The settings of one substation, one variable each; power in kW."""

    substation_id: str = Field(
        alias="SUBSTATION_ID",
        description="Its name; its queue is `substation.<id>`",
        pattern=SUBSTATION_PATTERN,
    )
    port: Port = Field(
        default=9100,
        alias="SUBSTATION_METRICS_PORT",
        description="The port of its metrics page; `make up` takes 9101, 9102, 9103",
    )
    connectors: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=50, alias="CONNECTORS", description="Vehicles that are charged at once"
    )
    charge_seconds_min: Seconds = Field(
        default=2, alias="CHARGE_SECONDS_MIN", description="The shortest simulated session"
    )
    charge_seconds_max: Seconds = Field(
        default=5, alias="CHARGE_SECONDS_MAX", description="The longest"
    )
    charge_speed: Annotated[float, Field(gt=0, le=86_400)] | None = Field(
        default=None,
        alias="CHARGE_SPEED",
        description=(
            "Simulated seconds a second: with it, a session takes as long as its requested "
            "energy takes, e.g. 3600 for an hour in a second"
        ),
    )
    grace_seconds: Seconds = Field(
        default=10,
        alias="GRACE_SECONDS",
        description="On SIGTERM, the time to finish sessions; the remaining jobs are requeued",
    )
    rated_power_kw: Kilowatts = Field(
        default=400,
        alias="RATED_POWER_KW",
        description="The transformer's rated power: a job is sent only where its power fits",
    )
    background_power_kw: Kilowatts = Field(
        default=0,
        alias="BACKGROUND_POWER_KW",
        description="The power of the transformer's other consumers",
    )

    @model_validator(mode="after")
    def _check_charge_seconds(self) -> Self:
        if self.charge_seconds_min > self.charge_seconds_max:
            raise ValueError(
                f"CHARGE_SECONDS_MIN={self.charge_seconds_min:g} is above "
                f"CHARGE_SECONDS_MAX={self.charge_seconds_max:g}: it must not be"
            )
        return self
