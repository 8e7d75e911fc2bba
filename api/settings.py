"""What the api can be told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from grid.settings import Port, PositiveSeconds, Seconds, Settings


class ApiSettings(Settings):
    """The settings of the api, one variable each; times in seconds."""

    port: Port = Field(default=7000, alias="API_PORT")
    decision_wait: Seconds = Field(default=1, alias="DECISION_WAIT_SECONDS")
    confirm_timeout: PositiveSeconds = Field(default=5, alias="CONFIRM_TIMEOUT_SECONDS")
    max_jobs: Annotated[int, Field(ge=1)] = Field(default=200_000, alias="MAX_JOBS")
