from __future__ import annotations

import pytest

from tests.faults.faults import FAULTS, GROUPS
from tests.faults.stage import Kind
from tests.workers import group


def faults_of(name: str) -> str:
    """Return the id of the test of a fault, or of the end of a group."""
    return f"tests/faults/test_faults.py::test_it[{name}]"


def test_a_file_is_a_group_unless_its_tests_have_systems_of_their_own() -> None:
    """Their fixtures are made once for a file; systems are each test's own."""
    assert group("tests/grid/test_a.py::test_1[x]") == group("tests/grid/test_a.py::test_2")
    assert group("tests/grid/test_a.py::test_1") != group("tests/grid/test_b.py::test_1")
    assert group("tests/end_to_end/test_a.py::test_1") != group(
        "tests/end_to_end/test_a.py::test_2"
    )
    assert group("tests/bench/test_a.py::test_1") == group("tests/bench/test_b.py::test_1")


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
