"""The dispatcher's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from dispatcher.policy import policy as find_policy
from grid.errors import ConfigurationError
from grid.settings import Port, PositiveSeconds, Seconds, Settings
from scheduling.policies import DEFAULT


def _known(policy: str) -> str:
    try:
        find_policy(policy)
        return policy
    except ConfigurationError as error:
        raise ValueError(str(error)) from error  # reported together with other wrong settings


class DispatcherSettings(Settings):
    """The settings of the dispatcher, one variable each; times in seconds."""

    port: Port = Field(default=6000, alias="DISPATCHER_METRICS_PORT")
    substations_file: Path = Field(alias="SUBSTATIONS_FILE")
    scrape_period: PositiveSeconds = Field(default=0.5, alias="SCRAPE_PERIOD_SECONDS")
    scrape_timeout: PositiveSeconds = Field(default=0.4, alias="SCRAPE_TIMEOUT_SECONDS")
    stale_after: PositiveSeconds = Field(default=2, alias="STALE_AFTER_SECONDS")
    default_connectors: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        default=50, alias="DEFAULT_CONNECTORS"
    )
    slow_start: Seconds = Field(default=1, alias="SLOW_START_SECONDS")
    send_ahead: bool = Field(default=True, alias="SEND_AHEAD")
    rescue_after: PositiveSeconds = Field(default=10, alias="RESCUE_AFTER_SECONDS")
    prefetch: Annotated[int, Field(ge=1, le=2000)] = Field(default=1000, alias="PREFETCH")
    policy: Annotated[str, AfterValidator(_known)] = Field(default=DEFAULT, alias="POLICY")

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.scrape_timeout > self.scrape_period:
            raise ValueError(
                f"SCRAPE_TIMEOUT_SECONDS={self.scrape_timeout:g} is above "
                f"SCRAPE_PERIOD_SECONDS={self.scrape_period:g}: it must not be"
            )
        if self.stale_after < 2 * self.scrape_period:
            raise ValueError(
                f"STALE_AFTER_SECONDS={self.stale_after:g} is below twice "
                f"SCRAPE_PERIOD_SECONDS={self.scrape_period:g}: every load would soon be too old"
            )
        return self
