"""What `make up` and `make status` print: what runs where, and how to log in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deploy import stack
from deploy.local.ports import HOST

GRAFANA_MISSING: Final = (
    "not installed: see https://grafana.com/docs/grafana/latest/setup-grafana/installation/, "
    "then `make up` again"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One row: what, where, and what to know about it."""

    name: str
    where: str
    remark: str = ""


def lines(
    ports: Mapping[str, int],
    substations: Mapping[str, int],
    *,
    own_broker: bool = True,
    closed: bool = False,
    no_grafana: str | None = None,
) -> list[Line]:
    """Return the rows; ``substations`` maps each id to its metrics port on this machine.

    ``closed`` says that the api needs a key for every request, ``no_grafana`` why there is none.
    """
    door = "closed: a key of API_KEYS_FILE is needed" if closed else "open to this machine"
    return [
        Line(
            "api",
            _url(ports[stack.API]),
            f"the page; /docs describes the api; POST /charge; {door}",
        ),
        Line("  operators", "PATCH /substations/<id>", "key in .secrets/operator"),
        Line("dispatcher", _url(ports[stack.DISPATCHER], "/metrics")),
        *(Line(name, _url(port, "/metrics")) for name, port in substations.items()),
        *_broker(ports, own=own_broker),
        Line("Prometheus", _url(ports[stack.PROMETHEUS])),
        Line("Grafana", no_grafana)
        if no_grafana
        else Line("Grafana", _url(ports[stack.GRAFANA]), _login("admin", "grafana")),
    ]


def text(rows: Sequence[Line], ports: Mapping[str, int], *, closed: bool = False) -> str:
    """Return the rows as a table, and what to try first; ``closed`` as above."""
    key = '-H "Authorization: Bearer $(cat .secrets/operator)" ' if closed else ""
    names = max(len(row.name) for row in rows)
    places = max(len(row.where) for row in rows if row.remark)
    table = [f"  {row.name:<{names}}  {row.where:<{places}}  {row.remark}".rstrip() for row in rows]
    return "\n".join(
        [
            *table,
            "",
            f"Try:  curl -X POST {key}localhost:{ports[stack.API]}/charge",
            "      make load        100 requests, 2 a second",
            "      make status | make logs | make down",
        ]
    )


def say(message: str) -> None:
    """Print a message for the caller; if its reader has ended, like `head`, nothing stops."""
    try:
        sys.stdout.write(message + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _broker(ports: Mapping[str, int], *, own: bool) -> list[Line]:
    if not own:  # its address may hold a password
        return [Line("RabbitMQ", "the one of AMQP_URL")]
    return [
        Line("RabbitMQ", _url(ports[stack.MANAGEMENT]), _login("admin", "admin")),
        Line("  AMQP", f"amqp://{HOST}:{ports[stack.RABBITMQ]}", "one user per service: .secrets/"),
    ]


def _login(user: str, file: str) -> str:
    return f"user {user}, password in .secrets/{file}"


def _url(port: int, path: str = "") -> str:
    return f"http://{HOST}:{port}{path}"
