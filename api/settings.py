"""The settings of the api."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from api import auth
from api.auth import ApiKeys, Scope
from grid.errors import ConfigurationError
from grid.files import text_of
from grid.settings import Port, PositiveSeconds, Seconds, Settings, is_plain_url
from grid.trace import Sampler

OPEN_TO_OTHERS: Final = (
    "an api that other machines reach needs keys: `python -m api.new_key NAME client` makes one; "
    "its line goes into the file of API_KEYS_FILE"
)
NO_CLIENTS: Final = "it is for operators: a client's line goes into the file of API_KEYS_FILE"


class ApiSettings(Settings):
    """The settings of the api, one variable each; times in seconds."""

    port: Port = Field(default=7000, alias="API_PORT", description="The port of the api")
    decision_wait: Seconds = Field(
        default=1,
        alias="DECISION_WAIT_SECONDS",
        description="How long the answer of `POST /charge` waits for the decision",
    )
    confirm_timeout: PositiveSeconds = Field(
        default=5,
        alias="CONFIRM_TIMEOUT_SECONDS",
        description="How long RabbitMQ may take to confirm, before the answer is 503",
    )
    max_jobs: Annotated[int, Field(ge=1)] = Field(
        default=200_000,
        alias="MAX_JOBS",
        description=(
            "Jobs kept in full in memory, about 1 KB each. Beyond it, the jobs that ended "
            "first are dropped (with an `Idempotency-Key`, all but the decision is kept). "
            "Jobs that have not ended are never dropped: the oldest are packed without "
            "their decisions, in about 230 bytes each"
        ),
    )
    charge_speed: PositiveSeconds | None = Field(
        default=None,
        alias="CHARGE_SPEED",
        description=(
            "As the substations': how many seconds of charging pass in one; if unset, sessions are "
            "expected to take as long as they did"
        ),
    )
    api_keys_file: Path | None = Field(
        default=None,
        alias="API_KEYS_FILE",
        description=(
            "A file of keys, one a line: `<name> <scope> <SHA-256 of the key>`, `#` for "
            "comments; scope `client`, or `operator`, which may also drain and limit "
            "substations. `python -m api.new_key NAME SCOPE` makes one. If set, every "
            "request needs a key"
        ),
    )
    api_keys_here: str = Field(
        default="", alias="API_KEYS", description="The same lines, separated by commas"
    )
    operator_keys_file: Path | None = Field(
        default=None,
        alias="OPERATOR_KEYS_FILE",
        description=(
            "The same, only for the scope `operator`; it does not make keys required. "
            "`make up` writes it"
        ),
    )
    address: str | None = Field(
        default=None,
        alias="API_ADDRESS",
        description="The address at which the api is reached, if that is not `HTTP_HOST`",
    )
    rate_limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1000,
        alias="RATE_LIMIT",
        description="Requests a second for each key; a list counts as one",
    )
    prometheus_url: str | None = Field(
        default=None,
        alias="PROMETHEUS_URL",
        description=(
            "The Prometheus whose firing alerts the page shows, `http://host:port`; `make up` "
            "names its own. It is asked only while somebody has the page open"
        ),
        repr=False,
    )

    traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field(
        default="parentbased_always_on",
        alias="OTEL_TRACES_SAMPLER",
        description=(
            "With a collector: which requests are sampled, and so logged in every service too; "
            "`parentbased_…` keeps the flag of a client's `traceparent`"
        ),
    )
    traces_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=1,
        alias="OTEL_TRACES_SAMPLER_ARG",
        description="With `traceidratio`: the share of requests that are sampled, from 0 to 1",
    )

    @model_validator(mode="after")
    def _check_prometheus_url(self) -> Self:
        """Check the address of Prometheus, which is not shown: it may hold a password."""
        if self.prometheus_url is not None and not is_plain_url(self.prometheus_url):
            raise ValueError(
                "PROMETHEUS_URL must be http://host[:port][/path] or https://…, without a user, a "
                "query or a fragment"
            )
        return self

    @property
    def sampler(self) -> Sampler | None:
        """Return which traces are recorded; None without a collector: those of clients who ask."""
        if self.otlp_endpoint is None:
            return None
        shares = {"on": 1.0, "off": 0.0}
        name = self.traces_sampler
        share = shares.get(name.rpartition("_")[2], self.traces_share)
        return Sampler(share, keeps_flag=name.startswith("parentbased_"))

    @property
    def key_required(self) -> bool:
        """Return whether every request needs a key, and not just those of operators.

        That is so if ``API_KEYS`` or its file is given, whatever they hold, and on an address that
        other machines reach. The file for operators alone does not make keys required.
        """
        return bool(self.api_keys_here or self.api_keys_file) or not self._only_this_machine

    def api_keys(self) -> ApiKeys:
        """Return all keys.

        Raise ``ConfigurationError`` if a file cannot be read, a line is wrong, a file has no key,
        or there is none and the address needs one.
        """
        here = self._of("API_KEYS", self.api_keys_here, self.api_keys_here.replace(",", "\n"))
        of_file = self._of_file("API_KEYS_FILE", self.api_keys_file)
        operators = self._of_file("OPERATOR_KEYS_FILE", self.operator_keys_file)
        if operators.has_scope(Scope.CLIENT):
            file = self.operator_keys_file
            raise ConfigurationError(f"OPERATOR_KEYS_FILE={file}: {NO_CLIENTS}")
        known = here | of_file | operators
        if not known and not self._only_this_machine:
            name = "API_ADDRESS" if self.address else "HTTP_HOST"
            raise ConfigurationError(f"{name}={self._address}: {OPEN_TO_OTHERS}")
        return known

    @property
    def _address(self) -> str:
        return self.address or self.http_host

    @property
    def _only_this_machine(self) -> bool:
        try:
            return ip_address(self._address).is_loopback
        except ValueError:
            return self._address == "localhost"

    def _of_file(self, variable: str, path: Path | None) -> ApiKeys:
        return ApiKeys() if path is None else self._of(variable, str(path), text_of(variable, path))

    def _of(self, variable: str, value: str, text: str) -> ApiKeys:
        if not value:
            return ApiKeys()
        try:
            return auth.parse_at_least_one_key(text)
        except ConfigurationError as error:
            shown = f"{variable}={value}" if variable != "API_KEYS" else variable
            raise ConfigurationError(f"{shown}: {error}") from None
