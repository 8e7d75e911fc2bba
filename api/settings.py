"""What the api can be told."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from api import keys
from api.keys import Keys, Scope
from grid.errors import ConfigurationError
from grid.files import text_of
from grid.settings import Port, PositiveSeconds, Seconds, Settings

OPEN_TO_OTHERS: Final = (
    "an api that other machines reach needs keys: `python -m api.new_key NAME client` makes one; "
    "its line goes into the file of API_KEYS_FILE"
)


class ApiSettings(Settings):
    """The settings of the api, one variable each; times in seconds."""

    port: Port = Field(default=7000, alias="API_PORT")
    decision_wait: Seconds = Field(default=1, alias="DECISION_WAIT_SECONDS")
    confirm_timeout: PositiveSeconds = Field(default=5, alias="CONFIRM_TIMEOUT_SECONDS")
    max_jobs: Annotated[int, Field(ge=1)] = Field(default=200_000, alias="MAX_JOBS")
    api_keys_file: Path | None = Field(default=None, alias="API_KEYS_FILE")
    api_keys_here: str = Field(default="", alias="API_KEYS")
    address: str | None = Field(default=None, alias="API_ADDRESS")
    rate_limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1000, alias="RATE_LIMIT"
    )

    def api_keys(self) -> Keys:
        """Give the keys of the variable and of the file.

        Raises ``ConfigurationError`` where the file cannot be read, or a line is wrong.
        """
        return self._keys_here().and_those_of(self._keys_of_file())

    def closed(self) -> bool:
        """Tell whether a key is needed for everything, and not just to operate.

        So it is where keys are given for clients, and on an address that other machines reach.
        Raises ``ConfigurationError`` where there is such an address and no key.
        """
        known, address = self.api_keys(), self.address or self.http_host
        if not _only_this_machine(address) and not known:
            name = "API_ADDRESS" if self.address else "HTTP_HOST"
            raise ConfigurationError(f"{name}={address}: {OPEN_TO_OTHERS}")
        if self.api_keys_here and not known:
            raise ConfigurationError(f"API_KEYS={self.api_keys_here}: there is no key in it")
        clients = bool(self.api_keys_here) or known.have(Scope.CLIENT)
        return clients or not _only_this_machine(address)

    def _keys_here(self) -> Keys:
        try:
            return keys.parse(self.api_keys_here.replace(",", "\n"))
        except ConfigurationError as error:
            raise ConfigurationError(f"API_KEYS: {error}") from None

    def _keys_of_file(self) -> Keys:
        if self.api_keys_file is None:
            return Keys()
        text = text_of("API_KEYS_FILE", self.api_keys_file)
        try:
            return keys.parse(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"API_KEYS_FILE={self.api_keys_file}: {error}") from None


def _only_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
