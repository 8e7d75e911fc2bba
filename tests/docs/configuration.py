"""The page of all settings, from the classes that read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from api.settings import ApiSettings
from deploy import stack
from dispatcher.settings import DispatcherSettings
from grid.settings import Settings
from substation.settings import SubstationSettings
from tests.docs.tables import GENERATED, code, table

# what only `make up` reads: meaning, and the default where it is no port
OF_MAKE_UP: Final[Mapping[str, tuple[str, str]]] = {
    "MODE": (
        "How everything runs: `docker` or `local`",
        "`docker` where an engine answers, else `local`",
    ),
    "SERVICES": ("With Docker: only these services of the compose file", "all"),
    "BUILD_NETWORK": (
        "With Docker: `host` if a build reaches the internet only that way",
        "`default`",
    ),
    "CLUSTER": (
        "With Docker and Compose 2.24 or later: 1 for three RabbitMQ nodes with every queue on "
        "each; two of them must run; the data of a single node are not taken over",
        "`0`",
    ),
}
PORTS: Final[Mapping[str, str]] = {
    stack.SUBSTATIONS: "The port of the first substation's metrics page; the others follow",
    stack.RABBITMQ: "RabbitMQ",
    stack.MANAGEMENT: "RabbitMQ's management UI",
    stack.RABBITMQ_METRICS: "RabbitMQ's metrics",
    stack.PROMETHEUS: "Prometheus",
    stack.GRAFANA: "Grafana",
}
LIMITS: Final[Mapping[str, str]] = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "pattern": "must match",
}
HEAD: Final = """# Configuration

Settings are environment variables of a service, or of `make up`, which passes them on to all
services and reads those that are to last from the file `.env` in this folder ([how
to](../how-to/run-it.md#change-settings)). An empty variable counts as unset. An invalid one
prevents the start; the error names it and its value. Times are in seconds.

"""


def page() -> str:
    """Return the page."""
    classes: dict[str, type[Settings]] = {
        "The api": ApiSettings,
        "The dispatcher": DispatcherSettings,
        "A substation": SubstationSettings,
    }
    parts = [GENERATED, HEAD, "## `make up`\n\n", _of_make_up(), "## Every service\n\n"]
    parts.append(_of(Settings, set()))
    for title, kind in classes.items():
        parts += [f"## {title}\n\n", _of(kind, {*Settings.model_fields})]
    return "".join(parts)


def _of_make_up() -> str:
    rows = [[code(name), default, text] for name, (text, default) in OF_MAKE_UP.items()]
    rows += [
        [code(name), code(stack.PORTS[name]), f"Port of 127.0.0.1: {text}"]
        for name, text in PORTS.items()
    ]
    return table(["variable", "default", "meaning"], rows)


def _of(kind: type[Settings], without: set[str]) -> str:
    shapes = kind.model_json_schema()["properties"]
    rows = (
        [code(field.alias), _default(field), _allowed(shapes[field.alias]), _text(field)]
        for name, field in kind.model_fields.items()
        if name not in without
    )
    return table(["variable", "default", "allowed", "meaning"], rows)


def _text(field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"{field.alias} has no description")
    return field.description


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "must be set"
    if value is None or value == "":
        return "–"
    if isinstance(value, tuple):
        return code(",".join(value))
    return code(int(value) if isinstance(value, bool) else value)


def _allowed(shape: Mapping[str, Any]) -> str:
    return ", ".join(dict.fromkeys(_limits(shape)))


def _limits(shape: Mapping[str, Any]) -> Iterator[str]:
    for each in shape.get("anyOf", ()):
        yield from _limits(each)
    if "enum" in shape:
        yield " or ".join(map(code, shape["enum"]))
    elif shape.get("type") == "boolean":
        yield "`0` or `1`"
    elif shape.get("type") == "integer":
        yield "a whole number"
    elif shape.get("type") == "number":
        yield "a number"
    for name, words in LIMITS.items():
        if name in shape:
            yield f"{words} `{shape[name]}`"
