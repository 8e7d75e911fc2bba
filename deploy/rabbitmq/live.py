"""Giving a node that runs the definitions as they are now: a new substation's user, say.

A node reads its file when it boots. To start it again for each change would take the whole system
with it for some seconds.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from deploy.local.ports import HOST, answers
from grid.errors import GridError

TIMEOUT_SECONDS: Final = 30
ADMIN: Final = "admin"


def load(port: int, passwords: Mapping[str, str], definitions: Mapping[str, Any]) -> None:
    """Load definitions by the management API on a port of this machine; if nothing answers, none.

    Raises ``GridError`` where the node does not take them.
    """
    if not answers(port):
        return
    token = base64.b64encode(f"{ADMIN}:{passwords[ADMIN]}".encode()).decode()
    request = urllib.request.Request(
        f"http://{HOST}:{port}/api/definitions",
        data=json.dumps(definitions).encode(),
        method="POST",
        headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        raise GridError(f"RabbitMQ does not take its definitions: {_why(error)}") from error
    except OSError as error:
        raise GridError(f"RabbitMQ does not take its definitions: {error}") from error


def _why(error: urllib.error.HTTPError) -> str:
    if error.code == HTTPStatus.UNAUTHORIZED:
        return f"it has another password for {ADMIN}: make down, then make up"
    return f"{error.code} {error.read().decode(errors='replace')[:200]}"
