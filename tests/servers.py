"""Which tests need a real server: they are marked, and no other test can start one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

MARKERS: Final = ("integration", "e2e")
# whoever asks for one of these is marked, whatever the file says
FIXTURES: Final = frozenset(
    {"broker_of_session", "clone", "awkward", "prometheus", "promtool", "browser"}
)
PROGRAMS: Final = frozenset({"rabbitmq-server", "rabbitmqctl", "epmd", "prometheus", "promtool"})
STARTED: Final = "subprocess.Popen"  # the audit event of Python, for asyncio's processes as well


class ServerRefused(Exception):
    """A test without a marker started a server."""


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark each test that gets a server by a fixture."""
    for item in items:
        if FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)


def is_marked(item: pytest.Item) -> bool:
    """Return whether a test may start a server."""
    return any(item.get_closest_marker(name) for name in MARKERS)


class Guard:
    """An audit hook that refuses servers while a test runs that is not marked."""

    def __init__(self) -> None:
        self.unmarked: str | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raise ``ServerRefused`` if the test that runs starts a server and is not marked."""
        if event != STARTED or self.unmarked is None:
            return
        program, *rest = map(os.fsdecode, arguments[1])
        paths = [program, *(each for each in rest if each.startswith("/"))]  # some run another
        started = PROGRAMS.intersection(Path(each).name for each in paths)
        if started:
            raise ServerRefused(
                f"{self.unmarked} starts {', '.join(started)}: mark it with "
                "@pytest.mark.integration, so that `make test-fast` leaves it out"
            )
