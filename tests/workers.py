"""How tests are spread over the worker processes of pytest-xdist, and which of them begin first.

One worker runs all tests of a group. A file is a group, unless its tests have systems of their own,
for which they wait most of the time: each of those goes to the next free worker.

pytest-xdist has marks for groups as well, which 3.8 does not see with pytest 9.2 (its issue 1386).
"""

from __future__ import annotations

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.faults.faults import GROUPS
from tests.servers import is_marked

ALONE: Final = (
    "tests/end_to_end/",
    "tests/deploy/test_local",
    "tests/deploy/test_full_disk.py::test_rabbitmq_stops",
)
FAULTS: Final = "tests/faults/test_faults.py"
BENCH: Final = "tests/bench/"  # its tests share a node


class Spread(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """The scheduler that hands out the groups."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """Return the name of a test's group."""
    file, _, test = nodeid.partition("::")
    if nodeid.startswith(ALONE):
        return nodeid
    if file == FAULTS:
        of = test.partition("[")[2].removesuffix("]")  # a fault, or a group itself
        return next((name for name, faults in GROUPS.items() if of == name or of in faults), file)
    return BENCH if file.startswith(BENCH) else file


def order(items: list[pytest.Item]) -> None:
    """Put those tests first that take longest; the tests of a group stay in their order."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """Return 0 for what is shared for long, 1 for systems, 2 for servers, 3 for all else."""
    if not is_marked(item):
        return 3
    if item.nodeid.startswith(("tests/faults/", BENCH)):
        return 0
    return 1 if item.get_closest_marker("e2e") is not None else 2
