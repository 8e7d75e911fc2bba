"""How tests are spread over the worker processes of pytest-xdist, and which of them begin first.

With ``--dist loadgroup`` one worker runs all tests of an ``xdist_group``; any worker runs a test
without one. Tests without a server take milliseconds: those of a file are a group. Those with one
mostly wait for it: each goes to the next free worker, unless its file names a group, since its
tests share a server.
"""

from __future__ import annotations

import pytest

from tests.servers import is_marked


def spread(items: list[pytest.Item]) -> None:
    """Group the tests, and put those first that take longest."""
    items.sort(key=_turn)
    for item in items:
        if not is_marked(item):
            item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}/{item.path.stem}"))


def _turn(item: pytest.Item) -> int:
    """Return 0 for tests that share a system or server, 1 for systems, 2 for servers, else 3."""
    if not is_marked(item):
        return 3
    if item.get_closest_marker("xdist_group") is not None:
        return 0
    return 1 if item.get_closest_marker("e2e") is not None else 2
