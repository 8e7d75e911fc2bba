"""HTTP requests to what runs on this machine, without the caller's proxy."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from grid.errors import GridError

OK: Final = 200
TIMEOUT_SECONDS: Final = 2.0


class NoAnswer(GridError):
    """A page could not be read; the text is its address, and why."""


def ask(
    url: str,
    method: str = "GET",
    body: object = None,
    key: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> tuple[int, str]:
    """Return the status and the text of a page.

    Args:
        url: where it is, without TLS.
        method: of HTTP.
        body: sent as JSON; None for none.
        key: of the api, if it needs one.
        timeout: for each step, in seconds.

    Raises:
        NoAnswer: nothing answers there, or not in time, or not in HTTP.
    """
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    headers = {"Prefer": "respond-async"}  # the api then waits for no decision
    if key:
        headers["Authorization"] = f"Bearer {key}"
    if body is not None:
        headers["Content-Type"] = "application/json"
    content = None if body is None else json.dumps(body).encode()
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        raise NoAnswer(f"{url}: {error}") from error
    finally:
        connection.close()


def ask_json(url: str, key: str | None = None, timeout: float = TIMEOUT_SECONDS) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON content of a page.

    Raises:
        NoAnswer: it could not be read, is not JSON, or reports an error.
    """
    status, content = ask(url, key=key, timeout=timeout)
    if status != OK:
        raise NoAnswer(f"{url}: {status} {content[:500].strip()}")
    try:
        return json.loads(content)
    except ValueError as error:
        raise NoAnswer(f"{url}: not JSON: {error}") from error
