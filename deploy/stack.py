"""The running stack: its ports, how to change them, and the file that describes what runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Final, Self

from deploy.files import own_folder, unreadable, write
from deploy.local.ports import is_free
from grid.errors import ConfigurationError

ROOT: Final = Path(__file__).parents[1]
STATE: Final = ROOT / ".run"
SECRETS: Final = ROOT / ".secrets"
STATE_FILE: Final = STATE / "stack.json"
STATE_REMEDY: Final = "Stop what runs with  make down , which does not need it, then  make up"

API: Final = "API_PORT"
DISPATCHER: Final = "DISPATCHER_METRICS_PORT"
SUBSTATIONS: Final = "SUBSTATION_METRICS_PORT_BASE"
RABBITMQ: Final = "RABBITMQ_PORT"
MANAGEMENT: Final = "RABBITMQ_MANAGEMENT_PORT"
RABBITMQ_METRICS: Final = "RABBITMQ_PROMETHEUS_PORT"
PROMETHEUS: Final = "PROMETHEUS_PORT"
GRAFANA: Final = "GRAFANA_PORT"

# each is changed by the variable of this name
PORTS: Final[Mapping[str, int]] = {
    API: 7000,
    DISPATCHER: 6000,
    SUBSTATIONS: 9101,
    RABBITMQ: 5672,
    MANAGEMENT: 15672,
    RABBITMQ_METRICS: 15692,
    PROMETHEUS: 9090,
    GRAFANA: 3000,
}
HIGHEST_PORT: Final = 65535


class PortTaken(ConfigurationError):
    """A port that the stack is to listen on is used by another program."""


@dataclass(frozen=True, slots=True)
class StackState:
    """What runs, kept in a file for `make status`, `make load` and others.

    ``ports`` and ``settings`` are by variable (see ``deploy.environment``); ``listening`` lists
    every port used by the stack itself.
    """

    mode: str
    ports: dict[str, int]
    settings: dict[str, str] = field(default_factory=dict)
    listening: list[int] = field(default_factory=list)

    @classmethod
    def read(cls) -> Self | None:
        """Return the state from its file; None if nothing was started.

        Raises:
            ConfigurationError: the file cannot be read, or is not one.
        """
        try:
            text = STATE_FILE.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{unreadable(STATE_FILE, error)}. {STATE_REMEDY}") from error
        try:
            parsed = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(
                f"{STATE_FILE} is not JSON: {error}. {STATE_REMEDY}"
            ) from error
        if not _is_stack_state(parsed):
            raise ConfigurationError(
                f"{STATE_FILE} does not describe a running stack. {STATE_REMEDY}"
            )
        known = {each.name for each in fields(cls)}  # another version may have written it
        return cls(**{name: value for name, value in parsed.items() if name in known})

    def variables(self) -> dict[str, str]:
        """Return the variables by which `make up` would start exactly this."""
        return {**{name: str(port) for name, port in self.ports.items()}, **self.settings}

    def write(self) -> None:
        """Write the file; an outside broker's address may hold a password, so it is private."""
        own_folder(STATE)
        write(STATE_FILE, json.dumps(asdict(self)))


def choose_ports(environment: Mapping[str, str]) -> dict[str, int]:
    """Return each variable's port: from the environment, else the default.

    Raise ``ConfigurationError`` for a variable that is not a port.
    """
    return {name: _port(name, environment.get(name) or port) for name, port in PORTS.items()}


def once_each(wanted: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Return how to change each port that is wanted.

    Raise ``ConfigurationError`` if two programs would have the same one.
    """
    found: dict[int, str] = {}
    for port, hint in wanted:
        if port in found:
            hints = " or ".join(dict.fromkeys([found[port], hint]))
            raise ConfigurationError(f"port {port} is wanted twice: {hints}")
        found[port] = hint
    return found


def check_free(wanted: Mapping[int, str], running: StackState | None) -> None:
    """Check that every port is free, or used by this stack; ``wanted`` says how to change each.

    Raises:
        PortTaken: naming all that are taken, and the variable that changes each.
    """
    own = set(running.listening) if running else set()
    taken = [port for port in wanted if port not in own and not is_free(port)]
    if taken:
        lines = [f"port {port} is taken by another program: {wanted[port]}" for port in taken]
        raise PortTaken("\n".join(lines))


def move_with(variable: str) -> str:
    """Return how to change a port by its variable."""
    return f"set {variable} to one that is free"


def _port(name: str, value: str | int) -> int:
    try:
        port = int(value)
    except ValueError:
        port = 0
    if not 1 <= port <= HIGHEST_PORT:
        raise ConfigurationError(f"{name}={value}: must be a port, 1 to {HIGHEST_PORT}")
    return port


def _is_stack_state(parsed: object) -> bool:
    """Return whether JSON has the shape of a stack state."""
    if not isinstance(parsed, dict):
        return False
    ports, settings = parsed.get("ports"), parsed.get("settings", {})
    listening = parsed.get("listening", [])
    return (
        isinstance(parsed.get("mode"), str)
        and isinstance(ports, dict)
        and all(isinstance(port, int) for port in ports.values())
        and isinstance(settings, dict)
        and all(isinstance(value, str) for value in settings.values())
        and isinstance(listening, list)
        and all(isinstance(port, int) for port in listening)
    )
