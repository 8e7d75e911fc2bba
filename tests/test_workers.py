from __future__ import annotations

import pytest

from tests import workers
from tests.faults.faults import FAULTS, GROUPS
from tests.faults.stage import Kind
from tests.workers import group


def faults_of(name: str) -> str:
    """Return the id of the test of a fault, or of the end of a group."""
    return f"tests/faults/test_faults.py::test_it[{name}]"


def test_a_file_is_a_group_unless_its_tests_take_long_on_their_own() -> None:
    """Their fixtures are made once for a file; systems are each test's own."""
    assert group("tests/grid/test_a.py::test_1[x]") == group("tests/grid/test_a.py::test_2")
    assert group("tests/grid/test_a.py::test_1") != group("tests/grid/test_b.py::test_1")
    assert group("tests/end_to_end/test_a.py::test_1") != group(
        "tests/end_to_end/test_a.py::test_2"
    )
    simulated = "tests/load_test/simulate/test_goals.py"
    assert group(f"{simulated}::test_1") != group(f"{simulated}::test_2")
    assert group("tests/bench/test_a.py::test_1") == group("tests/bench/test_b.py::test_1")


def test_each_worker_begins_with_other_tests_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them import all tests, also where one cannot be imported."""
    imported: list[str] = []

    def import_module(name: str) -> None:
        imported.append(name)
        raise ImportError(name)

    monkeypatch.setattr(workers, "import_module", import_module)
    found = []
    for worker in ("gw0", "gw1"):
        workers.share_compilation({"workerid": worker, "workercount": 2})
        found.append([*imported])
        imported.clear()
    half = len(found[0]) // 2
    assert __name__ in found[0]
    assert found[1] == found[0][half:] + found[0][:half]


def test_workers_compile_what_is_wanted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One file of tests, where a contributor names it."""
    imported: list[str] = []
    monkeypatch.setattr(workers, "import_module", imported.append)
    named = ["tests/test_workers.py::test_a[x::y]", "tests/docs", "tests/test_workers.py"]
    wanted = workers.wanted_paths(named, workers.TESTS.parent)
    workers.share_compilation({"workerid": "gw0", "workercount": 1}, wanted)
    assert imported.count("tests.test_workers") == 1
    assert {name.rpartition(".")[0] for name in imported} == {"tests", "tests.docs"}


class Item:
    """A test, its marker, and how many seconds it may take."""

    def __init__(self, nodeid: str, marker: str = "", seconds: float | None = None) -> None:
        self.nodeid, self._marker, self._seconds = nodeid, marker, seconds
        self.config = self

    def getini(self, name: str) -> str:
        return {"timeout": "180"}[name]

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        if name == "timeout" and self._seconds is not None:
            return pytest.mark.timeout(self._seconds).mark
        return getattr(pytest.mark, name).mark if name == self._marker else None


def test_tests_that_wait_are_mixed_with_those_that_compute() -> None:
    """What is shared for long is first, and what waits is not last."""
    shared = [Item("tests/bench/test_a.py::test_1", "integration")]
    waits = [Item(f"tests/end_to_end/test_a.py::test_{n}", "e2e") for n in range(4)]
    computes = [Item(f"tests/scheduling/test_{n}.py::test_1") for n in range(8)]
    items = [*computes, *waits, *shared]
    workers.order(items)  # type: ignore[arg-type]
    assert items[0] is shared[0]
    begun = [items.index(each) for each in waits]
    assert begun == sorted(begun)
    assert begun[0] <= 3
    assert begun[-1] <= len(items) - 2
    assert [each for each in items if each in computes] == computes


@pytest.mark.parametrize("folder", ["end_to_end", "faults"])
def test_tests_that_may_take_longest_begin_first_among_their_kind(folder: str) -> None:
    limits = {"a": 120, "b": None, "c": 600, "d": 240, "e": None}
    items = [Item(f"tests/{folder}/test_{n}.py::test_1", "e2e", limits[n]) for n in limits]
    a, b, c, d, e = items
    workers.order(items)  # type: ignore[arg-type]
    assert items == [c, d, b, e, a]


def test_pages_of_guides_and_other_pages_have_a_stack_each() -> None:
    name = f"{workers.PAGES}::test_commands_of_a_page_do_what_it_says"
    guides = {group(f"{name}[docs/how-to/{page}.md]") for page in ("load-tests", "run-it")}
    others = {group(f"{name}[{page}.md]") for page in ("README", "docs/tour")}
    assert len(guides) == len(others) == 1
    assert guides != others


@pytest.mark.parametrize("name", GROUPS)
def test_the_faults_of_a_group_go_to_the_worker_that_checks_its_end(name: str) -> None:
    """Vehicles that were charged twice unseen are counted by the system that its faults strike."""
    groups = {group(faults_of(each)) for each in (*GROUPS[name], name)}
    assert groups == {name}


def test_every_fault_is_in_one_group() -> None:
    """Those of one kind together: each kind has a system of its own."""
    assert sorted(each for names in GROUPS.values() for each in names) == sorted(
        fault.name for fault in FAULTS
    )
    other = {fault.name for fault in FAULTS if fault.kind is not Kind.PLAIN}
    assert any(set(names) == other for names in GROUPS.values())
