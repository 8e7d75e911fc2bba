"""Policies side by side: each over the same arrivals and durations, at each period. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from load_test.simulate.engine import Simulation
from load_test.simulate.figures import Figures, Floor, figures, floor
from load_test.simulate.policies import POLICIES
from load_test.simulate.scenario import Demand, Setting
from scheduling.policies import LeastLoaded, MostHeadroom

if TYPE_CHECKING:
    from random import Random

    from load_test.trace import Traced


@dataclass(frozen=True, slots=True)
class Comparison:
    """The figures of all runs, beside the floor of their common trace."""

    floor: Floor
    runs: Sequence[Figures]

    def as_json(self) -> dict[str, Any]:
        """Return all figures, ready for JSON."""
        least = {"mean_wait": self.floor.mean_wait, "p99_wait": self.floor.p99_wait}
        return {"floor": least, "runs": [each.as_json() for each in self.runs]}

    def as_table(self) -> str:
        """Return a line for each run; waits and T in mean session times."""
        least = f"{'floor':<14}{'':>7}{self.floor.mean_wait:>11.3f}{self.floor.p99_wait:>10.2f}"
        titles = ("mean wait", "p99 wait", "÷ floor", "misroutes", "spread")
        head = f"{'policy':<14}{'T':>7}" + "".join(
            f"{title:>{width}}" for title, width in zip(titles, (11, 10, 9, 11, 8), strict=True)
        )
        return "\n".join([head, least, *map(_line, self.runs)])


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
) -> Comparison:
    """Run each policy at each period, in s, over one trace.

    ``chance`` returns a random generator for the name in its argument, the same each time, so that
    no run depends on those before it.
    """
    connectors, session = sum(setting.connectors), demand.session
    trace = demand.trace(connectors, chance("trace"))
    least = floor(trace, connectors, session)
    runs = []
    for name in names:
        for period in periods:
            found = replace(setting_of(name, setting), period=period)
            outcome = Simulation(found, trace, POLICIES[name](), chance("run")).run()
            runs.append(figures(name, period, outcome, least, session))
    return Comparison(least, runs)


def _line(run: Figures) -> str:
    ratio = "–" if run.ratio is None else f"{run.ratio:.3f}"
    return (
        f"{run.policy:<14}{run.period:>7.3g}{run.mean_wait:>11.3f}{run.p99_wait:>10.2f}"
        f"{ratio:>9}{100 * run.misroutes:>9.1f} %{run.spread:>8.1f}"
    )
