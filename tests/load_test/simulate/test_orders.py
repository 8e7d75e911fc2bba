"""What holds for every order of the waiting jobs, in whole simulations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import inf
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_test.simulate.engine import Outcome, Simulation
from load_test.simulate.scenario import Setting, Trace
from scheduling.order import DeadlineOrder, FifoOrder, LaxityOrder, Order, Requirements
from scheduling.policies import LeastLoaded
from tests.examples import examples

POWER_KW = 7.0
DUE_AFTER = 20.0
LONGEST = 20.0


class Job(NamedTuple):
    """A job: seconds since the one before, its session's, and how long its vehicle stays."""

    after: float
    seconds: float
    stays: float | None


STAYING = st.builds(Job, st.floats(0, 5), st.floats(1, LONGEST), st.none())
LEAVING = st.builds(Job, st.floats(0, 10), st.floats(1, LONGEST), st.floats(1, 100))
JOBS = st.lists(STAYING | LEAVING | LEAVING | LEAVING, min_size=1, max_size=40)
ORDERS: list[type[FifoOrder | LaxityOrder | DeadlineOrder]] = [
    FifoOrder,
    LaxityOrder,
    DeadlineOrder,
]


def run(jobs: Sequence[Job], connectors: tuple[int, ...], order: Order) -> Outcome:
    """Return how jobs go; a job whose vehicle does not leave says how long it charges as well.

    None is dispatched ahead: it would begin before others that are due by then.
    """
    arrivals = list(accumulate(each.after for each in jobs))
    needs = []
    for number, (at, each) in enumerate(zip(arrivals, jobs, strict=True)):
        departs = inf if each.stays is None else at + each.stays
        rank = (0.0, departs - each.seconds, at, f"{number:03}")
        needs.append(Requirements(rank, (), POWER_KW, departs, each.seconds))
    trace = Trace(arrivals, [each.seconds for each in jobs])
    setting = Setting(connectors=connectors, period=0.0, send_ahead=False)
    return Simulation(setting, trace, LeastLoaded(), Random(1), needs=needs, order=order).run()  # noqa: S311


@examples(60)
@given(JOBS, st.sampled_from([(1,), (2, 1)]))
def test_deadline_order_starves_no_job_without_a_departure(
    jobs: list[Job], connectors: tuple[int, ...]
) -> None:
    """Once it has waited for long enough, only those before it come first, and what charges."""
    outcome = run(jobs, connectors, DeadlineOrder(dict.fromkeys(range(10), DUE_AFTER)))
    older = 0
    for number, each in enumerate(jobs):
        if each.stays is None:
            most = DUE_AFTER + (older // sum(connectors) + 1) * LONGEST + 1.0
            assert outcome.waits[number] <= most
            older += 1


@examples(60)
@given(JOBS)
def test_every_order_is_the_same_with_ample_room(jobs: list[Job]) -> None:
    """Each job begins as it comes."""
    outcomes = [run(jobs, (20, 20), order()) for order in ORDERS]
    for each in outcomes:
        assert each.waits == pytest.approx([0.0] * len(jobs))
        assert (each.starts, each.ends) == (outcomes[0].starts, outcomes[0].ends)
