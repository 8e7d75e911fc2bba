"""Waiting until everything answers that it is ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from typing import Final
from urllib.parse import urlsplit

OK: Final = 200
PERIOD: Final = 0.3


def problem(url: str) -> str | None:
    """Ask once; gives what is wrong, or nothing where the answer is 200."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        content = answer.read(500).decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        return f"{url}: {error}"
    finally:
        connection.close()
    return None if answer.status == OK else f"{url}: {answer.status} {content}"


def wait(
    urls: Mapping[str, str], seconds: float, failed: Callable[[], list[str]] = list
) -> dict[str, str]:
    """Wait until all are ready; gives what is not by then, and why, by name.

    ``failed`` names what has ended for good: it is not waited for any longer.
    """
    deadline = time.monotonic() + seconds
    while True:
        dead = failed()
        waiting = {name: why for name, url in urls.items() if (why := problem(url))}
        if dead:
            return {name: waiting.get(name, "ended by itself, again and again") for name in dead}
        if not waiting or time.monotonic() > deadline:
            return waiting
        time.sleep(PERIOD)
