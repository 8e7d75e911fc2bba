"""Policies side by side: each over the same arrivals and durations, at each period. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from grid.messages import DEFAULT_POWER_KW
from load_test import text
from load_test.simulate.engine import Simulation
from load_test.simulate.figures import Figures, Floor, figures, floor
from load_test.simulate.policies import POLICIES
from load_test.simulate.scenario import Demand, Setting
from load_test.stays import Best, Bound, Stay
from scheduling.order import DEFAULT as DEFAULT_ORDER
from scheduling.order import ORDERS, Requirements
from scheduling.policies import LeastLoaded, MostHeadroom

if TYPE_CHECKING:
    from random import Random

    from load_test.trace import Traced


@dataclass(frozen=True, slots=True)
class Comparison:
    """The figures of all runs, beside the floor of their common trace.

    ``most`` is the best that is possible in hindsight; None where no vehicle leaves.
    """

    floor: Floor
    runs: Sequence[Figures]
    most: Bound | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all figures, ready for JSON."""
        least = {"mean_wait": self.floor.mean_wait, "p99_wait": self.floor.p99_wait}
        most = {} if self.most is None else {"most": self.most._asdict()}
        return {"floor": least, "runs": [each.as_json() for each in self.runs]} | most

    def as_table(self) -> str:
        """Return a line for each run; waits and T in mean session times."""
        least = f"{'floor':<14}{'':>7}{self.floor.mean_wait:>11.3f}{self.floor.p99_wait:>10.2f}"
        titles = ("mean wait", "p99 wait", "÷ floor", "misroutes", "spread")
        head = f"{'policy':<14}{'T':>7}" + "".join(
            f"{title:>{width}}" for title, width in zip(titles, (11, 10, 9, 11, 8), strict=True)
        )
        lines = [head, least, *map(_line, self.runs)]
        return "\n".join(lines if self.most is None else self._with_demands(lines, self.most))

    def _with_demands(self, lines: Sequence[str], most: Bound) -> Iterator[str]:
        """Yield the lines with what vehicles got, and one for what they could have got."""
        titles = ("met", "energy", "fairness", "longest")
        head, least, *others = lines
        yield head + "".join(f"{title:>10}" for title in titles)
        yield least
        possible = (text.share(each) for each in most)
        yield f"{'at most':<{len(head)}}" + "".join(f"{each:>10}" for each in possible)
        for line, run in zip(others, self.runs, strict=True):
            fairness = "–" if run.fairness is None else f"{run.fairness:.3f}"
            shares = (text.share(run.demands_met), text.share(run.energy_delivered))
            cells = (*shares, fairness, f"{run.longest_wait:.2f}")
            yield line + "".join(f"{each:>10}" for each in cells)


def setting_of(name: str, setting: Setting) -> Setting:
    """Return the setting for a policy: only ``least-loaded`` has counters and a central queue.

    The others are compared with it in their usual form: a request goes to a substation at once, and
    waits there; the dispatcher only knows a gauge that counts what is there.
    """
    if name == LeastLoaded.name:
        return setting
    if name == MostHeadroom.name:
        return replace(setting, power=True)
    return replace(setting, counters=False, waits=False)


def compare(
    names: Iterable[str],
    periods: Sequence[float],
    setting: Setting,
    demand: Demand | Traced,
    chance: Callable[[str], Random],
    *,
    order: str = DEFAULT_ORDER,
    best: Best | None = None,
) -> Comparison:
    """Run each policy at each period, in s, over one trace.

    ``chance`` returns a random generator for the name in its argument, the same each time, so that
    no run depends on those before it. ``order`` is that of the jobs that wait, ``best`` returns the
    best that is possible where vehicles leave.
    """
    connectors, session = sum(setting.connectors), demand.session
    trace = demand.trace(connectors, chance("trace"))
    least = floor(trace, connectors, session, demand.stays)
    needs, most = None, None
    if demand.stays is not None:
        vehicles = list(zip(*trace, demand.stays, strict=True))
        needs = [_needs(*each) for each in vehicles]
        if best is not None:
            # all charge at one power: their energy is their time
            stays = [Stay(at, at + stay, seconds, seconds) for at, seconds, stay in vehicles]
            most = best(stays, connectors)
    runs = []
    for name in names:
        for period in periods:
            found = replace(setting_of(name, setting), period=period)
            policy = POLICIES[name]()
            simulation = Simulation(
                found, trace, policy, chance("run"), needs=needs, order=ORDERS[order]()
            )
            outcome = simulation.run()
            runs.append(
                figures(
                    name,
                    period,
                    outcome,
                    durations=trace.durations,
                    least=least,
                    session=session,
                )
            )
    return Comparison(least, runs, most)


def _needs(arrival: float, seconds: float, stay: float) -> Requirements:
    departs_at = arrival + stay
    rank = (0.0, departs_at - seconds, arrival, "")
    return Requirements(rank, (), DEFAULT_POWER_KW, departs_at, seconds)


def _line(run: Figures) -> str:
    ratio = "–" if run.ratio is None else f"{run.ratio:.3f}"
    return (
        f"{run.policy:<14}{run.period:>7.3g}{run.mean_wait:>11.3f}{run.p99_wait:>10.2f}"
        f"{ratio:>9}{100 * run.misroutes:>9.1f} %{run.spread:>8.1f}"
    )
