from __future__ import annotations

from itertools import cycle
from random import Random

import pytest

from bench import policy as bench
from grid.messages import DEFAULT_POWER_KW
from load_test.simulate.policies import POLICIES
from scheduling.explain import candidates


def test_policy_bench_measures_every_policy_in_every_state(
    capsys: pytest.CaptureFixture[str],
) -> None:
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
def test_policy_bench_measures_real_decisions(count: int, state: str) -> None:
    """All substations may be used, and the naive reference finds none that is lighter."""
    random = Random(count)  # noqa: S311
    table = bench.table_of(count, bench.STATES[state], random)
    substations = table.tracker.substations
    assert all(
        table.tracker.ineligible_reason(each, bench.NOW) is None for each in substations.values()
    )
    first = bench.decide(table, POLICIES["least-loaded"](), random)
    again = bench.decide_anew(
        table, POLICIES["least-loaded"](), random, cycle(substations.values())
    )
    plain = bench.naive(list(substations.values()), DEFAULT_POWER_KW)
    assert first is not None
    assert again is not None
    seen = {each.substation: each.utilisation for each in candidates(table, bench.NOW)}
    least_utilised = {seen[name] for name in (first, again, plain)}
    assert len(substations) == count
    assert len(least_utilised) == 1
