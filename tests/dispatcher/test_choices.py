"""POLICY and ORDER: a name of the project's, or the import path of a class of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from dispatcher.choices import order, policy
from grid.errors import ConfigurationError
from grid.messages import ChargeRequest
from scheduling.candidates import Candidates
from scheduling.order import ORDERS, DeadlineOrder, FifoOrder, Requirements, SortKey, requirements
from scheduling.policies import POLICIES, Pick
from scheduling.scheduler import Scheduler
from scheduling.wait_queue import WaitQueue
from tests.scheduling.tables import NOW, Row, table_of

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"


@dataclass(frozen=True, eq=False)
class Asked:
    """A job that waits."""

    requirements: Requirements


class First:
    """A policy of one's own: the first candidate by name."""

    name = "first"

    def pick(self, candidates: Candidates, random: Random) -> Pick:  # noqa: ARG002
        """Return the first candidate."""
        return Pick(int(candidates.numbers[0]), "the first by name")


class Alphabetical:
    """An order of one's own: by the name of the job."""

    name = "alphabetical"
    varies = False

    def turns(
        self,
        jobs: Sequence[Requirements],
        free_at: Sequence[float],  # noqa: ARG002
        now: float,  # noqa: ARG002
    ) -> Sequence[SortKey]:
        """Return the ids."""
        return [(each.rank[3],) for each in jobs]


class Nameless:
    """A class that is no policy."""


class Broken:
    """A policy that cannot be made without arguments."""

    def __init__(self, _: str) -> None: ...


@pytest.mark.parametrize("name", ["least-loaded", "most-headroom"])
def test_policy_is_found_by_its_name(name: str) -> None:
    """These are the names in the documentation."""
    assert policy(name).name == name
    assert list(POLICIES) == ["least-loaded", "most-headroom"]


def test_policy_of_another_package_is_found_by_its_import_path() -> None:
    """A depot adds a policy without a change to the project."""
    assert policy(f"{__name__}.First").name == "first"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lightest", ["'lightest'", "least-loaded, most-headroom", "package.module.Class"]),
        ("", ["''", "least-loaded"]),
        ("no.such.Policy", ["'no.such.Policy'", "No module named"]),
        (f"{__name__}.Missing", ["Missing"]),
        (f"{__name__}.Nameless", ["Nameless", "must have a name and a method pick"]),
        (f"{__name__}.Broken", ["Broken", "cannot be imported or created"]),
        (".", ["'.'", "cannot be imported or created"]),
    ],
)
def test_policy_that_cannot_be_made_is_refused_with_the_reason(name: str, words: list[str]) -> None:
    """The error names the value, and what is allowed."""
    with pytest.raises(ConfigurationError) as refused:
        policy(name)
    assert all(each in str(refused.value) for each in words)


def test_order_is_found_by_its_name_or_import_path() -> None:
    """These are the names in the documentation; the default heeds when jobs are due."""
    assert [order(name, {}).name for name in ORDERS] == ["deadline", "fifo", "laxity"]
    assert isinstance(order("fifo", {}), FifoOrder)
    due = order("deadline", {0: 5.0})
    assert isinstance(due, DeadlineOrder)
    waits = [requirements(ChargeRequest(name, at)) for name, at in (("a", 1.0), ("b", 2.0))]
    assert [turn[1] for turn in due.turns(waits, [], 6.5)] == [0, 2]
    own = order(f"{__name__}.Alphabetical", {})
    queue: WaitQueue[Asked] = WaitQueue(own)
    for name in "bca":
        queue.add(Asked(requirements(ChargeRequest(name, 1.0))))
    assert "".join(each.requirements.rank[3] for each in queue) == "abc"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("oldest", ["'oldest'", "deadline, fifo, laxity", "package.module.Class"]),
        (f"{__name__}.First", ["First", "must have a name and a method turns(jobs, free_at, now)"]),
    ],
)
def test_order_that_cannot_be_made_is_refused_with_the_reason(name: str, words: list[str]) -> None:
    """As a policy is: the error names the value, and what is allowed."""
    with pytest.raises(ConfigurationError) as refused:
        order(name, {})
    assert all(each in str(refused.value) for each in words)


def test_policy_of_the_docs_spreads_load_over_feeders(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by its import path, and the labels of the target file reach it."""
    monkeypatch.syspath_prepend(EXAMPLES)
    table = table_of(Row("a", 5), Row("b"), Row("c", 1))
    table.labels = {"a": {"feeder": "north"}, "b": {"feeder": "north"}, "c": {"feeder": "south"}}
    scheduler: Scheduler[Asked] = Scheduler(table, policy("depot.SpreadFeeders"), Random(1))  # noqa: S311
    queue: WaitQueue[Asked] = WaitQueue()
    for number in range(6):
        queue.add(Asked(requirements(ChargeRequest(f"j{number}", 1.0))))
    assignments = scheduler.schedule(queue, NOW)
    # three sessions bring the south from one to four, then it takes turns with the north's five
    assert Counter(each.substation for each in assignments) == {"c": 5, "b": 1}
    assert assignments[0].explanation["reason"] == "least power on its feeder south: 7.4 kW"
