"""Updating a node that runs to the present users and topology, and removing old users.

A node reads its file only when it boots, and only adds. Restarting it for each change would stop
the whole system for some seconds.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from deploy.local.ports import DIRECTLY, HOST, answers
from deploy.rabbitmq import definitions, disk
from deploy.rabbitmq.users import is_withdrawn
from grid import topology
from grid.errors import GridError

TIMEOUT_SECONDS: Final = 30
ADMIN: Final = "admin"


@dataclass(frozen=True, slots=True)
class OwnBroker:
    """Our own node on this machine, by its management port; ``passwords`` are by user."""

    port: int
    passwords: Mapping[str, str]
    substations: Collection[str]

    def load(self) -> None:
        """Load the definitions; if nothing answers, the node will read them when it boots.

        Raise ``GridError`` if it refuses them.
        """
        if answers(self.port):
            rendered = definitions.render_stack(self.passwords, self.substations)
            self._call("POST", "definitions", rendered)

    def complete(self) -> None:
        """Load the definitions again if a node that has booted lacks one of their bindings.

        RabbitMQ 3.10 reads its file before its existing streams are up, and silently drops a new
        binding of a stream. If nothing answers, do nothing; raise ``GridError`` if the node refuses
        them.
        """
        if not answers(self.port):
            return
        found = self._call("GET", f"bindings/{quote(definitions.VHOST, safe='')}")
        known = {(each["source"], each["destination"], each["routing_key"]) for each in found}
        wanted = {(each.exchange, each.name, each.key) for each in topology.QUEUES}
        if wanted - known:
            self.load()

    def short_of_disk(self) -> str | None:
        """Return a sentence if a node has too little free disk, None if it has enough.

        If nothing answers, return None; raise ``GridError`` if the node refuses.
        """
        if not answers(self.port):
            return None
        columns = "name,disk_free_alarm,disk_free,disk_free_limit"
        for node in self._call("GET", f"nodes?columns={columns}"):
            if node.get("disk_free_alarm"):
                return disk.said(node["name"], node["disk_free"], node["disk_free_limit"])
        return None

    def withdraw(self) -> list[str]:
        """Remove the users of earlier versions, and of substations that are gone; return their
        names.

        RabbitMQ closes their connections. Users that somebody else has added stay. If nothing
        answers, do nothing; raise ``GridError`` if the node refuses.
        """
        if not answers(self.port):
            return []
        known = [each["name"] for each in self._call("GET", "users?columns=name")]
        old = [name for name in known if is_withdrawn(name, self.substations)]
        for name in old:
            self._call("DELETE", f"users/{quote(name, safe='')}")
        return old

    def _call(self, method: str, what: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        token = base64.b64encode(f"{ADMIN}:{self.passwords[ADMIN]}".encode()).decode()
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}/api/{what}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
        )
        try:
            with DIRECTLY.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise GridError(f"RabbitMQ does not take {method} {what}: {_why(error)}") from error
        except (OSError, ValueError) as error:
            raise GridError(f"RabbitMQ does not take {method} {what}: {error}") from error


def _why(error: urllib.error.HTTPError) -> str:
    if error.code == HTTPStatus.UNAUTHORIZED:
        return f"it has another password for {ADMIN}: make down, then make up"
    return f"{error.code} {error.read().decode(errors='replace')[:200]}"
