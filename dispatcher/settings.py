"""The dispatcher's settings."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dispatcher import choices
from grid.errors import ConfigurationError
from grid.messages import MAX_PRIORITY, valid_job_id
from grid.settings import Port, PositiveSeconds, Seconds, Settings
from scheduling import policies
from scheduling.order import DEFAULT, DUE_AFTER_SECONDS
from scheduling.reserve import Reserve


def _known_policy(name: str) -> str:
    try:
        choices.policy(name)
        return name
    except ConfigurationError as error:
        raise ValueError(str(error)) from error  # reported together with other wrong settings


def _known_order(name: str) -> str:
    try:
        choices.order(name, {})
        return name
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


def _by_priority(value: object) -> object:
    """Return seconds by priority; one number alone holds for all."""
    if not isinstance(value, str):
        return value
    try:
        if "=" not in value:
            found = dict.fromkeys(range(MAX_PRIORITY + 1), float(value))
        else:
            found = {int(priority): seconds for priority, seconds in _pairs(value).items()}
    except ValueError:
        found = {}
    if found and all(0 <= each <= MAX_PRIORITY for each in found) and min(found.values()) >= 0:
        return found
    raise ValueError(f"must be seconds, or priority=seconds as in 0=3600,5=600, got {value!r}")


def _weights(value: object) -> object:
    """Return a weight for each tenant that is named."""
    if not isinstance(value, str):
        return value
    try:
        found = _pairs(value)
    except ValueError:
        found = {}
    valid = all(valid_job_id(each) for each in found)
    if found and valid and all(0 < each < inf for each in found.values()):
        return found
    raise ValueError(f"must be tenant=weight, each above 0, as in fleet=3,public=1, got {value!r}")


def _pairs(text: str) -> dict[str, float]:
    """Return the numbers by name of a text like a=1,b=2. Raise ``ValueError`` otherwise."""
    pairs = (part.split("=") for part in text.split(","))
    return {name.strip(): float(number) for name, number in pairs}


class DispatcherSettings(Settings):
    """The settings of the dispatcher, one variable each; times in seconds."""

    port: Port = Field(
        default=6000,
        alias="DISPATCHER_METRICS_PORT",
        description="The port of the dispatcher's metrics",
    )
    substations_file: Path = Field(
        alias="SUBSTATIONS_FILE",
        description=(
            "The substations, in Prometheus's `file_sd` format: `.json`, `.yml` or "
            "`.yaml`, read as strictly as Prometheus does. `make up` without Docker takes "
            "`deploy/local/substations.json`, with Docker always "
            "`deploy/prometheus/substations.json`"
        ),
    )
    scrape_period: PositiveSeconds = Field(
        default=0.5,
        alias="SCRAPE_PERIOD_SECONDS",
        description="How often each substation's page is read",
    )
    scrape_timeout: PositiveSeconds = Field(
        default=0.4,
        alias="SCRAPE_TIMEOUT_SECONDS",
        description="How long a page may take; not above the period",
    )
    stale_after: PositiveSeconds = Field(
        default=2,
        alias="STALE_AFTER_SECONDS",
        description="An older load counts as unknown; at least twice the scrape period",
    )
    default_connectors: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        default=50,
        alias="DEFAULT_CONNECTORS",
        description="For a substation whose page and target do not name its connectors",
    )
    slow_start: Seconds = Field(
        default=1,
        alias="SLOW_START_SECONDS",
        description="How long the slow start of a substation that comes back takes",
    )
    send_ahead: bool = Field(
        default=True,
        alias="SEND_AHEAD",
        description=(
            "While at least as many other jobs wait as there are substations, one job is "
            "dispatched ahead to each full substation whose sessions take less than a "
            "minute on average; 0: never"
        ),
    )
    rescue_after: PositiveSeconds = Field(
        default=10,
        alias="RESCUE_AFTER_SECONDS",
        description=(
            "How long a page or a consumer may be missing before waiting jobs are reclaimed"
        ),
    )
    prefetch: Annotated[int, Field(ge=1, le=2000)] = Field(
        default=1000,
        alias="PREFETCH",
        description=(
            "Requests that the dispatcher holds and orders while they fit nowhere; when "
            "nine tenths of them wait, those at the end are requeued behind the others"
        ),
    )
    policy: Annotated[str, AfterValidator(_known_policy)] = Field(
        default=policies.DEFAULT,
        alias="POLICY",
        description=(
            "Which of the substations with capacity gets a job: `least-loaded`, the lowest "
            "utilisation; `most-headroom`, the most kW left; or the import path of a class "
            "of your own, as in `depot.SpreadFeeders` (see `scheduling/policies.py`), "
            "whose module is in this folder or installed in `.venv`; in containers, in an "
            "image of your own"
        ),
    )
    order: Annotated[str, AfterValidator(_known_order)] = Field(
        default=DEFAULT,
        alias="ORDER",
        description=(
            "Which of the waiting requests of a priority is next: `deadline`, the most that can "
            "be done by their departures; `fifo`, first come, first served; `laxity`, the one "
            "that must begin soonest; or the import path of a class of your own (see "
            "`scheduling/order.py`)"
        ),
    )
    due_after: Annotated[Mapping[int, float] | None, BeforeValidator(_by_priority)] = Field(
        default=None,
        alias="DUE_AFTER_SECONDS",
        description=(
            "With `ORDER=deadline`: after so long a wait, a request without a departure comes "
            "before the others of its priority; for some priorities only, as in `0=3600,5=600` "
            f"(default: {DUE_AFTER_SECONDS:.0f})"
        ),
    )
    tenant_weights: Annotated[Mapping[str, float] | None, BeforeValidator(_weights)] = Field(
        default=None,
        alias="TENANT_WEIGHTS",
        description=(
            "The shares of tenants among requests of the same priority, as in "
            "`fleet=3,public=1`; 1 for each that is not named"
        ),
    )
    reserved_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0,
        alias="RESERVED_SHARE",
        description=(
            "The share of all connectors that is kept free for requests of "
            "`RESERVED_PRIORITY` and above, as in `0.1`; 0: none"
        ),
    )
    reserved_priority: Annotated[int, Field(ge=1, le=MAX_PRIORITY)] = Field(
        default=7,
        alias="RESERVED_PRIORITY",
        description="The lowest priority that may take what `RESERVED_SHARE` keeps free",
    )
    charge_speed: PositiveSeconds | None = Field(
        default=None,
        alias="CHARGE_SPEED",
        description="As the substations': how many seconds of charging pass in one; 1 if unset",
    )

    @property
    def reserve(self) -> Reserve | None:
        """Return what is kept free for high priorities; None if nothing is."""
        return Reserve(self.reserved_share, self.reserved_priority) if self.reserved_share else None

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
