"""What the tests of the simulation have in common: runs, always the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from load_test.simulate.compare import compare
from load_test.simulate.figures import Figures
from load_test.simulate.scenario import Demand, Setting

SEED = 2


def chance(what: str) -> Random:
    """Return a random generator for a purpose."""
    return Random(f"{SEED} {what}")  # noqa: S311


def run(name: str, setting: Setting, demand: Demand) -> Figures:
    """Run one policy at the setting's period."""
    return runs([name], setting, demand)[0]


def runs(names: Sequence[str], setting: Setting, demand: Demand) -> Sequence[Figures]:
    """Run policies over one trace at the setting's period."""
    return compare(names, [setting.period], setting, demand, chance).runs
