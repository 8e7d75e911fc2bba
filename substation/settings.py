"""The settings of a substation."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from grid.messages import SUBSTATION_PATTERN
from grid.settings import Port, Seconds, Settings

Kilowatts = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SubstationSettings(Settings):
    """The settings of one substation, one variable each; power in kW."""

    substation_id: str = Field(alias="SUBSTATION_ID", pattern=SUBSTATION_PATTERN)
    port: Port = Field(default=9100, alias="SUBSTATION_METRICS_PORT")
    connectors: Annotated[int, Field(ge=1, le=100_000)] = Field(default=50, alias="CONNECTORS")
    charge_seconds_min: Seconds = Field(default=2, alias="CHARGE_SECONDS_MIN")
    charge_seconds_max: Seconds = Field(default=5, alias="CHARGE_SECONDS_MAX")
    charge_speed: Annotated[float, Field(gt=0, le=86_400)] | None = Field(
        default=None, alias="CHARGE_SPEED"
    )
    grace_seconds: Seconds = Field(default=10, alias="GRACE_SECONDS")
    rated_power_kw: Kilowatts = Field(default=400, alias="RATED_POWER_KW")
    background_power_kw: Kilowatts = Field(default=0, alias="BACKGROUND_POWER_KW")

    @model_validator(mode="after")
    def _check_charge_seconds(self) -> Self:
        if self.charge_seconds_min > self.charge_seconds_max:
            raise ValueError(
                f"CHARGE_SECONDS_MIN={self.charge_seconds_min:g} is above "
                f"CHARGE_SECONDS_MAX={self.charge_seconds_max:g}: it must not be"
            )
        return self
