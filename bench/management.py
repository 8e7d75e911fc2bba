"""The management API of a RabbitMQ node on this machine, for the benchmark and the tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any, Final
from urllib.parse import quote

from bench.processes import NotMeasured
from deploy.local.ports import HOST
from deploy.rabbitmq.definitions import render_permissions
from deploy.rabbitmq.users import permissions

ERROR: Final = 300  # the first status that is no success
ANSWER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Management:
    """A node's management API on a port, as its user ``admin``."""

    port: int
    password: str = field(repr=False)

    def request(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Request a path, e.g. ``("GET", "/api/queues/%2F")``; return the JSON of the answer.

        Raise ``NotMeasured`` for any answer that is not a success.
        """
        credentials = base64.b64encode(f"admin:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        connection = HTTPConnection(HOST, self.port, timeout=ANSWER_SECONDS)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= ERROR:
            raise NotMeasured(f"{method} {path}: RabbitMQ answered {answer.status} {content!r}")
        return json.loads(content) if content else None

    def make_vhost(self, name: str, substations: Sequence[str]) -> None:
        """Make a virtual host without exchanges or queues, with every user's permissions."""
        self.request("PUT", f"/api/vhosts/{quote(name, safe='')}")
        allowed = render_permissions(name, permissions(substations))
        self.request("POST", "/api/definitions", allowed)

    def declare(self, vhost: str, definitions: object) -> None:
        """Declare exchanges, queues and bindings in a virtual host."""
        self.request("POST", f"/api/definitions/{quote(vhost, safe='')}", definitions)

    def drop_vhost(self, name: str) -> None:
        """Delete a virtual host with all that is in it."""
        self.request("DELETE", f"/api/vhosts/{quote(name, safe='')}")
