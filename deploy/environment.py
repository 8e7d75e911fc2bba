"""The settings of the stack: which variables they are, and what follows from their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from deploy import stack
from grid import tls
from grid.errors import ConfigurationError

AMQP_URL: Final = "AMQP_URL"
AMQP_USER: Final = "AMQP_USER"
AMQP_PASSWORD_FILE: Final = "AMQP_PASSWORD_FILE"  # noqa: S105 - a variable's name
TLS_FILES: Final = (tls.CA_FILE, tls.CERTIFICATE_FILE, tls.KEY_FILE)
BROKER_FILES: Final = (AMQP_PASSWORD_FILE, *TLS_FILES)
BROKER: Final = (AMQP_URL, AMQP_USER, *BROKER_FILES)
CLUSTER: Final = "CLUSTER"
API_KEYS_FILE: Final = "API_KEYS_FILE"
API_KEYS: Final = "API_KEYS"
OPERATOR_KEYS_FILE: Final = "OPERATOR_KEYS_FILE"  # set by `make up`, with its own key
PROMETHEUS_URL: Final = "PROMETHEUS_URL"  # the same, with the address of its own Prometheus
GRACE: Final = "GRACE_SECONDS"

# Every variable that is passed on or obeyed, except the ports (see `stack.PORTS`) and MODE.
VARIABLES: Final = (
    *BROKER,
    "SUBSTATIONS_FILE",
    "HTTP_TIMEOUT_SECONDS",
    "HTTP_KEEP_ALIVE_SECONDS",
    "HTTP_CONNECTIONS",
    "HTTP_CONNECTIONS_PER_ADDRESS",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "DECISION_WAIT_SECONDS",
    "CONFIRM_TIMEOUT_SECONDS",
    "MAX_JOBS",
    API_KEYS_FILE,
    API_KEYS,
    "RATE_LIMIT",
    "SCRAPE_PERIOD_SECONDS",
    "SCRAPE_TIMEOUT_SECONDS",
    "STALE_AFTER_SECONDS",
    "DEFAULT_CONNECTORS",
    "SLOW_START_SECONDS",
    "SEND_AHEAD",
    "RESCUE_AFTER_SECONDS",
    "PREFETCH",
    "POLICY",
    "ORDER",
    "DUE_AFTER_SECONDS",
    "TENANT_WEIGHTS",
    "RESERVED_SHARE",
    "RESERVED_PRIORITY",
    "CONNECTORS",
    "CHARGE_SECONDS_MIN",
    "CHARGE_SECONDS_MAX",
    "CHARGE_SPEED",
    "RATED_POWER_KW",
    "BACKGROUND_POWER_KW",
    GRACE,
    CLUSTER,
    "SERVICES",
    "BUILD_NETWORK",
)
GRACE_SECONDS: Final = 10.0  # a substation's default
STOP_MARGIN_SECONDS: Final = 15  # for what a service writes and closes after that


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return each variable of ours that is set; an empty one counts as unset."""
    return {name: value for name in VARIABLES if (value := environment.get(name))}


def no_longer_set(
    environment: Mapping[str, str], wanted: stack.StackState, running: stack.StackState
) -> list[str]:
    """Return the variables that the running stack was started with and that nobody sets now.

    One that the environment sets, or unsets by an empty value, is not among them.
    """
    settings = [name for name in running.settings if name not in wanted.settings]
    ports = [name for name in stack.PORTS if running.ports.get(name) != wanted.ports[name]]
    return [name for name in (*ports, *settings) if name not in environment]


def broker(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of an outside broker; empty if the stack has its own."""
    if not settings.get(AMQP_URL):
        return {}
    return {name: settings[name] for name in BROKER if name in settings}


def closed(settings: Mapping[str, str]) -> bool:
    """Return whether the api needs a key for every request."""
    return API_KEYS in settings or API_KEYS_FILE in settings


def clustered(settings: Mapping[str, str]) -> bool:
    """Return whether RabbitMQ is to run as three nodes. Raise ``ConfigurationError`` if wrong."""
    value = settings.get(CLUSTER, "0")
    if value not in {"0", "1"}:
        raise ConfigurationError(f"{CLUSTER}={value}: must be 1 (three RabbitMQ nodes) or 0 (one)")
    if value == "1" and settings.get(AMQP_URL):
        raise ConfigurationError(f"{CLUSTER}=1 and {AMQP_URL}: use one of them")
    return value == "1"


def stop_seconds(settings: Mapping[str, str]) -> int:
    """Return how long a substation may take to end before it is killed.

    Raise ``ConfigurationError`` if ``GRACE_SECONDS`` is not a time.
    """
    value = settings.get(GRACE, str(GRACE_SECONDS))
    try:
        grace = float(value)
    except ValueError:
        grace = math.nan
    if not 0 <= grace < math.inf:
        raise ConfigurationError(f"{GRACE}={value}: must be a number of seconds, 0 or more")
    return math.ceil(grace) + STOP_MARGIN_SECONDS
