"""How tests are spread over the worker processes of pytest-xdist, and which of them begin first.

One worker runs all tests of a group. A file is a group, unless its tests have systems of their own,
for which they wait most of the time, or compute for long: each of those goes to the next free
worker.

pytest-xdist has marks for groups as well, which 3.8 does not see with pytest 9.2 (its issue 1386).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.faults.faults import GROUPS
from tests.servers import is_marked

TESTS: Final = Path(__file__).parent
ALONE: Final = (
    "tests/end_to_end/",
    "tests/deploy/test_local",
    "tests/deploy/test_full_disk.py::test_rabbitmq_stops",
    "tests/deploy/test_scripts.py",
    "tests/load_test/simulate/test_goals.py",
    "tests/load_test/simulate/test_reference.py",
    "tests/load_test/test_real.py",
)
FAULTS: Final = "tests/faults/test_faults.py"
PAGES: Final = "tests/docs/test_commands.py"  # its tests share a stack, for most of the time
GUIDES: Final = "docs/how-to/"  # take as long as all other pages, and have a stack of their own
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
    if file == PAGES and f"[{GUIDES}" in test:
        return GUIDES
    return BENCH if file.startswith(BENCH) else file


def share_compilation(worker: Mapping[str, Any], wanted: Collection[Path] = (TESTS,)) -> None:
    """Import the wanted tests, each worker beginning with others: all read what one has compiled.

    In a new checkout, to compile the tests takes twice as long as to import them. What cannot be
    imported is left to the collection, which reports it.

    Args:
        worker: Its id, and how many there are, as pytest-xdist has them.
        wanted: Files of tests, and folders that have some.
    """
    files = sorted({file for each in wanted for file in _files(each)})
    first = int(worker["workerid"].removeprefix("gw")) * len(files) // worker["workercount"]
    for file in (*files[first:], *files[:first]):
        with suppress(Exception):
            import_module(".".join(file.relative_to(TESTS.parent).with_suffix("").parts))


def wanted_paths(arguments: Iterable[str], beside: Path) -> list[Path]:
    """Return the files and folders that arguments of pytest name, such as ``tests/a.py::test_b``.

    ``beside`` is the folder that relative ones are in.
    """
    return [beside / argument.partition("::")[0] for argument in arguments]


def _files(path: Path) -> Iterable[Path]:
    """Return the files of tests at a path; a folder may be one that all tests are in."""
    if not path.is_dir():
        return [path]
    return (TESTS if TESTS.is_relative_to(path) else path).rglob("test_*.py")


def order(items: list[pytest.Item]) -> None:
    """Put first what takes longest; the tests of a group stay in their order.

    What waits for most of its time is mixed with what computes, so that both processors have
    something to do; what is shared for long comes before all. Of one kind, those are first that may
    take longest, by their marker ``timeout`` or the default.
    """
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group(item.nodeid), []).append(item)
    kinds: dict[Kind, list[str]] = {}
    for name, members in groups.items():
        kinds.setdefault(min(map(_kind, members)), []).append(name)
    for names in kinds.values():
        names.sort(key=lambda name: -max(map(_longest, groups[name])))
    place = {
        name: (_END[kind] * (number + 1) / len(names), number)
        for kind, names in kinds.items()
        for number, name in enumerate(names)
    }
    items.sort(key=lambda item: place[group(item.nodeid)])


class Kind(IntEnum):
    """What the tests of a group do, the longest first."""

    SHARED = 0  # share something for long
    SYSTEM = 1  # wait for systems of their own
    SERVER = 2  # use a server
    REST = 3  # compute, most of them shortly


# The share of the run by which all groups of a kind have begun. What waits does not come last.
_END: Final = {Kind.SHARED: 0.0, Kind.SYSTEM: 0.8, Kind.SERVER: 0.9, Kind.REST: 1.0}


def _longest(item: pytest.Item) -> float:
    """Return how many seconds a test may take."""
    marker = item.get_closest_marker("timeout")
    return float(item.config.getini("timeout") if marker is None else marker.args[0])


def _kind(item: pytest.Item) -> Kind:
    if not is_marked(item):
        return Kind.REST
    if item.nodeid.startswith(("tests/faults/", BENCH, PAGES)):
        return Kind.SHARED
    return Kind.SYSTEM if item.get_closest_marker("e2e") is not None else Kind.SERVER
