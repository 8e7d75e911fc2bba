"""What the api can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from api import keys
from api.keys import Keys
from grid.errors import ConfigurationError
from grid.files import text_of
from grid.settings import Port, PositiveSeconds, Seconds, Settings


class ApiSettings(Settings):
    """The settings of the api, one variable each; times in seconds."""

    port: Port = Field(default=7000, alias="API_PORT")
    decision_wait: Seconds = Field(default=1, alias="DECISION_WAIT_SECONDS")
    confirm_timeout: PositiveSeconds = Field(default=5, alias="CONFIRM_TIMEOUT_SECONDS")
    max_jobs: Annotated[int, Field(ge=1)] = Field(default=200_000, alias="MAX_JOBS")
    api_keys_file: Path | None = Field(default=None, alias="API_KEYS_FILE")

    def api_keys(self) -> Keys:
        """Give the keys of the file; none without one.

        Raises ``ConfigurationError`` where it cannot be read, or a line of it is wrong.
        """
        if self.api_keys_file is None:
            return Keys()
        text = text_of("API_KEYS_FILE", self.api_keys_file)
        try:
            return keys.parse(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"API_KEYS_FILE={self.api_keys_file}: {error}") from None
