"""``python -m load_test flood``: how long others wait beside a tenant that floods.

Several tenants with the same share send at random, in virtual time. Then one of them sends many
times as much, with and without fair sharing. With the flood, no connector is ever idle, so that
every request waits for the end of a session: the least that is possible is the wait of the others
where all of theirs come before all of the flood.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, Final

from grid.messages import DEFAULT_POWER_KW
from load_test import simulation_options
from load_test.files import check_folder, write_json
from load_test.simulate.engine import Simulation
from load_test.simulate.scenario import Durations, Setting, Trace
from scheduling.order import Requirements
from scheduling.policies import LeastLoaded

FLOODING: Final = 0  # the number of the tenant that floods
PERIOD: Final = 0.5  # s, between two pages
EVENT_LATENCY: Final = 0.01


@dataclass(frozen=True, slots=True)
class Scene:
    """``tenants`` that all send as much, and use the connectors together for ``utilisation``.

    ``jobs`` are those of all tenants without the flood; one of them then sends ``times`` as many.
    """

    connectors: Sequence[int]
    sessions: Durations
    tenants: int = 10
    times: float = 10.0
    jobs: int = 6_000


@dataclass(frozen=True, slots=True)
class Line:
    """The mean wait of the others at a utilisation, in mean session times."""

    utilisation: float
    without: float
    shared: float
    least: float
    unshared: float

    @property
    def ratio(self) -> float:
        """Return how many times as long they wait beside the flood."""
        return self.shared / self.without if self.without else inf

    def as_json(self) -> dict[str, float]:
        """Return all figures, ready for JSON."""
        return {
            "utilisation": self.utilisation,
            "without": self.without,
            "shared": self.shared,
            "least": self.least,
            "unshared": self.unshared,
            "ratio": self.ratio,
        }


def line(scene: Scene, utilisation: float, seed: int) -> Line:
    """Return the waits at a utilisation, over the same requests of the others."""
    return Line(
        utilisation,
        _wait(scene, utilisation, seed, times=1.0),
        _wait(scene, utilisation, seed, times=scene.times),
        _wait(scene, utilisation, seed, times=scene.times, others_first=True),
        _wait(scene, utilisation, seed, times=scene.times, are_named=False),
    )


def _wait(
    scene: Scene,
    utilisation: float,
    seed: int,
    *,
    times: float,
    are_named: bool = True,
    others_first: bool = False,
) -> float:
    """Return the mean wait of the others; without names, nothing is shared."""
    rate = utilisation * sum(scene.connectors) / scene.sessions.mean / scene.tenants
    end = scene.jobs / scene.tenants / rate
    jobs: list[tuple[float, float, int]] = []
    for tenant in range(scene.tenants):
        chance = Random(f"{seed} {tenant}")  # noqa: S311  # repeatable, not secret
        at, own = 0.0, rate * (times if tenant == FLOODING else 1.0)
        while (at := at + chance.expovariate(own)) < end:
            jobs.append((at, scene.sessions.draw(chance), tenant))
    jobs.sort()
    trace = Trace([at for at, _, _ in jobs], [seconds for _, seconds, _ in jobs])
    needs = [
        Requirements(
            (float(tenant == FLOODING and others_first), inf, at, f"{number:09d}"),
            (),
            DEFAULT_POWER_KW,
            inf,
            tenant=f"tenant{tenant}" if are_named else "",
        )
        for number, (at, _, tenant) in enumerate(jobs)
    ]
    setting = Setting(tuple(scene.connectors), period=PERIOD, event_latency=EVENT_LATENCY)
    chance = Random(f"{seed} run")  # noqa: S311
    outcome = Simulation(setting, trace, LeastLoaded(), chance, needs=needs).run()
    others = [
        wait for wait, (_, _, tenant) in zip(outcome.waits, jobs, strict=True) if tenant != FLOODING
    ]
    return fmean(others) / scene.sessions.mean


def table(lines: Sequence[Line]) -> str:
    """Return a line for each utilisation."""
    titles = ("utilisation", "without flood", "with it", "ratio", "least", "unshared")
    widths = (11, 15, 10, 8, 9, 10)
    head = "".join(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True))
    rows = (
        f"{each.utilisation:>11.2f}{each.without:>15.3f}{each.shared:>10.3f}{each.ratio:>8.2f}"
        f"{each.least:>9.3f}{each.unshared:>10.1f}"
        for each in lines
    )
    return "\n".join([head, *rows])


def main(argv: Sequence[str], _: Mapping[str, str]) -> int:
    """Run the command; return the exit status."""
    given = _parser().parse_args(argv)
    check_folder(given.json, "--json")
    scene = Scene(given.connectors, given.session, given.tenants, given.times, given.jobs)
    lines = [line(scene, each, given.seed) for each in given.utilisation]
    sys.stdout.write(
        f"mean wait of {scene.tenants - 1} tenants while another sends {scene.times:g} x its "
        f"share, in mean session times; {sum(scene.connectors)} connectors\n{table(lines)}\n"
    )
    about: dict[str, Any] = {"tenants": scene.tenants, "times": scene.times, "jobs": scene.jobs}
    write_json(given.json, about | {"lines": [each.as_json() for each in lines]})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_test flood",
        description="Says how long others wait beside a tenant that floods, in virtual time.",
    )
    parser.add_argument(
        "--connectors",
        type=simulation_options.connectors,
        default=(10,) * 3,
        metavar="LIST",
        help="SUBSTATIONSxCONNECTORS, or the connectors of each (default 3x10)",
    )
    parser.add_argument(
        "--utilisation",
        type=lambda text: [float(each) for each in text.split(",")],
        default=[0.8, 0.9, 0.95, 1.0],
        metavar="LIST",
        help="without the flood (default 0.8,0.9,0.95,1)",
    )
    parser.add_argument(
        "--session",
        type=simulation_options.durations,
        default=Durations(2.0, 5.0),
        metavar="SECONDS",
        help="mean of exponential sessions, or LOW-HIGH for uniform ones (default 2-5)",
    )
    parser.add_argument("--tenants", type=int, default=10, help="default 10, of the same share")
    parser.add_argument("--times", type=float, default=10.0, help="the flood: default 10")
    parser.add_argument("--jobs", type=int, default=6_000, help="without the flood: 6000")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    return parser
