from __future__ import annotations

from dataclasses import dataclass
from math import inf
from random import Random
from typing import Any

import pytest

from grid.events import Counts
from scheduling.candidates import Candidates, CandidateTable
from scheduling.explain import AHEAD
from scheduling.order import Requirements
from scheduling.policies import LeastLoaded, Pick
from scheduling.reserve import Reserve
from scheduling.scheduler import Assignment, Scheduler, SchedulingFailed
from scheduling.wait_queue import WaitQueue
from tests.scheduling.tables import NOW, RUN, Row, table_of


@dataclass(frozen=True)
class One:
    """Whoever waits."""

    name: str
    requirements: Requirements


def ask(name: str, power_kw: float = 7, *allowed: str, rank: float = 0) -> One:
    """Make one that waits; those of one rank are in the order of their names."""
    return One(name, Requirements((rank, 0, 0, name), allowed, power_kw, inf))


def is_ahead(assignment: Assignment[One]) -> bool:
    """Return whether a job was dispatched ahead, by its explanation."""
    return str(assignment.explanation["reason"]).endswith(AHEAD)


# so many substations that no job is dispatched ahead
MANY = tuple(Row(f"drained{number}", closed="drained") for number in range(4))


class Routing:
    """A candidate table, a wait queue and the scheduler; ``sent`` is which job went where."""

    def __init__(self, *rows: Row, reserve: Reserve | None = None) -> None:
        self.table: CandidateTable = table_of(*rows)
        self.queue: WaitQueue[One] = WaitQueue()
        self.scheduler: Scheduler[One] = Scheduler(
            self.table,
            LeastLoaded(),
            Random(1),  # noqa: S311
            reserve=reserve,
        )
        self.choices: list[Assignment[One]] = []
        self.sent: list[tuple[str, str]] = []

    def round(self, *ones: One) -> bool:
        """Let some join, and send all there is room for; tells whether room is left."""
        for one in ones:
            self.queue.add(one)
        self.choices = self.scheduler.schedule(self.queue, NOW)
        self.sent = [(each.job.name, each.substation) for each in self.choices]
        return self.scheduler.capacity_left

    @property
    def waiting(self) -> list[str]:
        """Name those that wait, in their order."""
        return [one.name for one in self.queue]


def test_scheduler_assigns_in_order_until_capacity_ends() -> None:
    """The wait queue's order says which job, the policy where; each is counted before the next."""
    routing = Routing(Row("a", 8), Row("b", 9))
    assert not routing.round(*(ask(name) for name in ("4", "2", "1", "3", "5")))
    assert routing.sent == [("1", "a"), *routing.sent[1:3]]
    assert [name for name, _ in routing.sent] == ["1", "2", "3"]
    assert {where for _, where in routing.sent[1:]} == {"a", "b"}
    assert routing.waiting == ["4", "5"]
    substations = routing.table.tracker.substations
    assert {name: each.load for name, each in substations.items()} == {"a": 10, "b": 10}


def test_scheduler_explains_each_job_before_counting_it() -> None:
    """So that its record shows what the decision saw; the power in flight is the request's."""
    routing = Routing(Row("a", 2))
    routing.round(ask("1", 11), ask("2", 22))
    loads = [each.explanation["candidates"][0]["load"] for each in routing.choices]
    assert loads == [2, 3]
    assert list(routing.table.tracker.substations["a"].in_flight_kw) == [11, 22]
    assert [each.explanation["reason"] for each in routing.choices] == [
        "lowest utilisation after placing it: 0.3",
        "lowest utilisation after placing it: 0.4",
    ]


@pytest.mark.parametrize("first", [ask("1", 7, "full"), ask("1", 60), ask("1", 60, "a")])
def test_scheduler_passes_over_a_job_that_fits_nowhere(first: One) -> None:
    """Because all it allows are full, or no substation has enough power left."""
    routing = Routing(Row("a", rated=50), Row("full", 10, rated=100), *MANY)
    assert routing.round(first, ask("2"), ask("3"))
    assert routing.sent == [("2", "a"), ("3", "a")]
    assert routing.waiting == ["1"]


def test_scheduler_assigns_a_smaller_job_where_a_larger_one_does_not_fit() -> None:
    """Of those that name the same: none larger is tried again, each smaller one is."""
    routing = Routing(Row("a", rated=50), Row("b", rated=10))
    powers = {"1": 60, "2": 70, "3": 45, "4": 60, "5": 20, "6": 10, "7": 5}
    routing.round(*(ask(name, power) for name, power in powers.items()))
    assert routing.sent == [("3", "a"), ("6", "b"), ("7", "a")]
    assert routing.waiting == ["1", "2", "4", "5"]


def test_scheduler_tries_jobs_that_allow_other_substations() -> None:
    """Those that name others, or none, are tried."""
    routing = Routing(Row("a", 10), Row("b"), Row("c", 10), *MANY)
    assert routing.round(ask("1", 7, "a"), ask("2", 7, "a", "c"), ask("3", 7, "a", "b"), ask("4"))
    assert routing.sent == [("3", "b"), ("4", "b")]


@pytest.mark.parametrize(
    ("ones", "room"),
    [
        ([], True),
        ([ask("1")], True),
        ([ask("1", 7, "full")], True),
        ([ask("1", 7, "full"), ask("2")], True),
        ([ask("1", 7, "full"), ask("2"), ask("3")], False),
        ([ask("1", 7, "full"), ask("2"), ask("3"), ask("4")], False),
        ([ask("1", 90)], True),
    ],
)
def test_scheduler_tells_whether_capacity_is_left(ones: list[One], *, room: bool) -> None:
    """The last of it may be taken by one that is behind whoever had to wait."""
    assert Routing(Row("a", 8, rated=80), Row("full", 10), *MANY).round(*ones) == room


def test_scheduler_counts_dispatch_ahead_as_capacity() -> None:
    """Jobs that arrive later may use it."""
    routing = Routing(Row("a", 10), Row("b", 10))
    assert routing.round(*(ask(name, 7, "nowhere") for name in "123"))
    assert not routing.round(ask("4"), ask("5"))
    assert {where for _, where in routing.sent} == {"a", "b"}


def test_scheduler_without_substations_assigns_nothing() -> None:
    """Without a substation all jobs wait."""
    routing = Routing()
    assert not routing.round(ask("1"))
    assert routing.waiting == ["1"]


@pytest.mark.parametrize(("waiting", "sent"), [(1, 0), (2, 0), (3, 1), (4, 2), (5, 2), (9, 2)])
def test_scheduler_dispatches_ahead_only_with_enough_other_jobs_waiting(
    waiting: int, sent: int
) -> None:
    """Whichever connector is free first, a job is left for it; and at most one at each."""
    routing = Routing(Row("a", 10), Row("b", 10))
    assert not routing.round(*(ask(str(number)) for number in range(waiting)))
    assert [name for name, _ in routing.sent] == [str(number) for number in range(sent)]
    assert len({where for _, where in routing.sent}) == sent
    assert all(is_ahead(each) for each in routing.choices)
    assert not routing.round(), "no more until one is taken"
    assert routing.sent == []


def test_scheduler_dispatches_ahead_again_once_the_first_was_accepted() -> None:
    """What counts is that the substation reports it as accepted."""
    routing = Routing(Row("a", 10))
    routing.round(ask("1"), ask("2"), ask("3"))
    assert routing.sent == [("1", "a")]
    routing.table.tracker.report("a", Counts(10, 11, 1, 0, RUN))
    routing.round()
    assert routing.sent == [("2", "a")]
    assert routing.waiting == ["3"]


def test_scheduler_dispatches_ahead_a_job_that_allows_only_a_full_substation() -> None:
    """It may go nowhere else, whatever is free elsewhere."""
    routing = Routing(Row("a"), Row("b", 10))
    routing.round(ask("1", 7, "b"), ask("2", 7, "b"), ask("3"))
    assert routing.sent == [("1", "b"), ("3", "a")]
    assert routing.waiting == ["2"]


def test_scheduler_uses_free_connectors_before_dispatching_ahead() -> None:
    """Skipped jobs count as waiting."""
    routing = Routing(Row("a", 9), Row("b", 10))
    routing.round(ask("0", 7, "nowhere"), *(ask(str(number)) for number in range(1, 5)))
    assert routing.sent[0] == ("1", "a")
    assert [is_ahead(each) for each in routing.choices] == [False, True, True]
    assert routing.waiting == ["0", "4"]


def test_scheduler_does_not_dispatch_ahead_beyond_the_power() -> None:
    """The next job draws power while the others still do."""
    routing = Routing(Row("a", 10, rated=75))
    routing.round(*(ask(str(number)) for number in range(5)))
    assert routing.sent == []
    routing.round(ask("small", 1, rank=-1))
    assert routing.sent == [("small", "a")]


class Failing(LeastLoaded):
    """A policy with a mistake in it: it fails from the third decision on."""

    def __init__(self) -> None:
        self.left = 2

    def pick(self, candidates: Candidates, random: Random) -> Pick:
        """Return the least utilised, twice."""
        self.left -= 1
        if self.left < 0:
            raise KeyError
        return super().pick(candidates, random)


def test_scheduler_keeps_assignments_made_before_a_failing_job() -> None:
    """The failing job is removed, those before it are assigned once, and those behind it wait."""
    routing = Routing(Row("a"), Row("b"))
    scheduler: Scheduler[One] = Scheduler(routing.table, Failing(), Random(1))  # noqa: S311
    for name in ("1", "2", "3", "4"):
        routing.queue.add(ask(name))
    routing.queue.add(ask("0", 7, "nowhere"))
    with pytest.raises(SchedulingFailed) as failed:
        scheduler.schedule(routing.queue, NOW)
    assert [each.job.name for each in failed.value.assignments] == ["1", "2"]
    assert failed.value.job.name == "3"
    assert isinstance(failed.value.__cause__, KeyError)
    assert routing.waiting == ["0", "4"]


class Wrong(LeastLoaded):
    """A policy that picks by the gauge alone, whatever may be used."""

    def pick(self, candidates: Candidates, random: Random) -> Pick:  # noqa: ARG002
        """Return the lowest gauge."""
        return Pick(int(candidates.figures.gauge.argmin()), "the lowest gauge")


def test_scheduler_refuses_a_policys_pick_that_is_no_candidate() -> None:
    """A drained substation has the lowest gauge; no policy may send a job there."""
    routing = Routing(Row("a", 3), Row("drained", closed="drained"))
    scheduler: Scheduler[One] = Scheduler(routing.table, Wrong(), Random(1))  # noqa: S311
    routing.queue.add(ask("1"))
    with pytest.raises(SchedulingFailed) as failed:
        scheduler.schedule(routing.queue, NOW)
    assert "no candidate" in str(failed.value.__cause__)
    assert routing.table.tracker.substations["drained"].load == 0


def test_policy_cannot_write_to_the_candidate_arrays() -> None:
    """Its arrays are those of the next decision as well."""
    found = Routing(Row("a"), Row("b")).table.candidates_for(7, (), NOW)
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found.after[0] = inf


def test_scheduler_stops_its_pass_once_capacity_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pass over a thousand jobs that wait must not cost a thousand decisions."""
    routing = Routing(Row("a", 10), *MANY)
    asked: list[object] = []
    candidates_for = CandidateTable.candidates_for

    def counted(table: CandidateTable, *arguments: Any, **named: Any) -> Candidates | None:  # noqa: ANN401
        asked.append(arguments)
        return candidates_for(table, *arguments, **named)

    monkeypatch.setattr(CandidateTable, "candidates_for", counted)
    assert not routing.round(*(ask(f"{number:03}", 7) for number in range(50)))
    assert len(asked) <= 5
    assert len(routing.waiting) + len(routing.sent) == 50


def urgent(name: str, *allowed: str) -> One:
    """Make one of priority 7."""
    return ask(name, 7, *allowed, rank=-7.0)


def test_scheduler_keeps_a_share_of_the_connectors_for_high_priorities() -> None:
    """The others wait while fewer would be free, and those are the next; it says which took it."""
    routing = Routing(Row("a", 5), Row("b", 9), *MANY, reserve=Reserve(0.2, 7))
    assert routing.round(*(ask(name) for name in "123456"))
    assert [name for name, _ in routing.sent] == ["1", "2"], "4 of 20 connectors stay free"
    assert routing.round(), "capacity is left, so that more urgent ones get in"
    assert routing.waiting == ["3", "4", "5", "6"]
    assert routing.round(urgent("u1", "a"), urgent("u2", "a"))
    assert routing.sent == [("u1", "a"), ("u2", "a")]
    reasons = [str(each.explanation["reason"]) for each in routing.choices]
    assert all(each.endswith("kept for priority 7 and above") for each in reasons)
    routing.table.tracker.undo("a")
    routing.round()
    assert routing.sent == [], "3 of 20 are free"


@pytest.mark.parametrize(("loads", "sent"), [((0, 0), 9), ((5, 5), 0), ((4, 5), 0)])
def test_scheduler_keeps_a_share_of_what_may_be_sent_jobs(
    loads: tuple[int, int], sent: int
) -> None:
    """What is drained, or where the load is unknown, is no capacity to keep a share of."""
    rows = [Row("a", loads[0], places=5), Row("b", loads[1], places=5)]
    routing = Routing(*rows, *MANY, reserve=Reserve(0.1, 7))
    routing.round(*(ask(name) for name in "abcdefghijkl"))
    assert len(routing.sent) == sent
