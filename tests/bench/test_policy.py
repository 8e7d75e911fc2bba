from __future__ import annotations

from itertools import cycle
from random import Random

import pytest

from bench import policy as bench
from dispatcher.decision.policy import POLICIES, policy
from grid.messages import DEFAULT_POWER_KW


def test_it_measures_every_policy_in_every_state(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each, with figures that are more than nothing, and the goal."""
    bench.main(["--decisions", "2", "--repeats", "1"])
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == bench.HEADER
    assert len(lines) == len(bench.GOALS) * len(bench.STATES) * len(POLICIES)
    for line in lines:
        count, *_, still, anew, goal, plain, ratio = line.split()
        assert bench.GOALS[int(count)] == float(goal)
        assert all(float(figure) > 0 for figure in (still, anew, plain, ratio))


@pytest.mark.parametrize("state", bench.STATES)
@pytest.mark.parametrize("count", bench.GOALS)
def test_what_it_measures_is_a_decision(count: int, state: str) -> None:
    """All substations may be used, and the naive reference finds none that is lighter."""
    random = Random(count)  # noqa: S311
    fleet = bench.fleet_of(count, bench.STATES[state], random)
    accounts = fleet.ledger.accounts
    assert all(fleet.ledger.ineligible(each, bench.NOW) is None for each in accounts.values())
    first = bench.decide(fleet, policy("least-loaded"), random)
    again = bench.decide_anew(fleet, policy("least-loaded"), random, cycle(accounts.values()))
    plain = bench.naive(list(accounts.values()), DEFAULT_POWER_KW)
    assert first is not None
    assert again is not None
    lightest = {accounts[name].utilisation(0) for name in (first, again, plain)}
    assert len(accounts) == count
    assert len(lightest) == 1
