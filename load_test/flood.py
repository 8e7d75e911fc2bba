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
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, Final, NamedTuple

from grid.messages import DEFAULT_POWER_KW
from load_test import simulation_options
from load_test.files import check_folder, write_json
from load_test.simulate.engine import Outcome, Simulation
from load_test.simulate.scenario import Durations, Setting, Trace
from scheduling.order import UNKNOWN_HOURS, Requirements
from scheduling.policies import LeastLoaded

FLOODING: Final = 0  # the number of the tenant that floods
PERIOD: Final = 1 / 7  # of a mean session, between two pages
EVENT_LATENCY: Final = 0.01
STAYS: Final = (1.5, 8.0)  # session times, from the request to the departure


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
        return {**asdict(self), "ratio": self.ratio}


@dataclass(frozen=True, slots=True)
class Met:
    """The share of the others' demands that are met by their departures, at a utilisation."""

    utilisation: float
    without: float
    shared: float
    unshared: float

    def as_json(self) -> dict[str, float]:
        """Return all figures, ready for JSON."""
        return asdict(self)


def line(scene: Scene, utilisation: float, seed: int) -> Line:
    """Return the waits at a utilisation, over the same requests of the others."""
    return Line(
        utilisation,
        _wait(scene, utilisation, seed, times=1.0),
        _wait(scene, utilisation, seed, times=scene.times),
        _wait(scene, utilisation, seed, times=scene.times, others_first=True),
        _wait(scene, utilisation, seed, times=scene.times, are_named=False),
    )


def met(scene: Scene, utilisation: float, seed: int) -> Met:
    """Return the demands met at a utilisation, over the same requests of the others."""
    return Met(
        utilisation,
        _met(scene, utilisation, seed, times=1.0),
        _met(scene, utilisation, seed, times=scene.times),
        _met(scene, utilisation, seed, times=scene.times, are_named=False),
    )


class _Job(NamedTuple):
    """A request; ``departs_at`` is infinite where it names no departure. Times in seconds."""

    at: float
    seconds: float
    tenant: int
    departs_at: float


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
    jobs = _jobs(scene, utilisation, seed, times)
    outcome = _run(scene, jobs, seed, are_named=are_named, others_first=others_first)
    waits = zip(outcome.waits, jobs, strict=True)
    others = [wait for wait, job in waits if job.tenant != FLOODING]
    return fmean(others) / scene.sessions.mean


def _met(
    scene: Scene, utilisation: float, seed: int, *, times: float, are_named: bool = True
) -> float:
    """Return which share of the others' demands is met by their departures."""
    jobs = _jobs(scene, utilisation, seed, times, STAYS)
    starts = zip(_run(scene, jobs, seed, are_named=are_named).starts, jobs, strict=True)
    return fmean(
        start is not None and start + job.seconds <= job.departs_at
        for start, job in starts
        if job.tenant != FLOODING
    )


def _jobs(
    scene: Scene,
    utilisation: float,
    seed: int,
    times: float,
    stays: tuple[float, float] | None = None,
) -> list[_Job]:
    """Return the requests; with ``stays``, vehicles leave after so many of their session times."""
    rate = utilisation * sum(scene.connectors) / scene.sessions.mean / scene.tenants
    end = scene.jobs / scene.tenants / rate
    jobs: list[_Job] = []
    for tenant in range(scene.tenants):
        chance = Random(f"{seed} {tenant}")  # noqa: S311  # repeatable, not secret
        at, own = 0.0, rate * (times if tenant == FLOODING else 1.0)
        while (at := at + chance.expovariate(own)) < end:
            seconds = scene.sessions.draw(chance)
            departs_at = inf if stays is None else at + seconds * chance.uniform(*stays)
            jobs.append(_Job(at, seconds, tenant, departs_at))
    return sorted(jobs)


def _run(
    scene: Scene,
    jobs: Sequence[_Job],
    seed: int,
    *,
    are_named: bool,
    others_first: bool = False,
) -> Outcome:
    needs = [
        Requirements(
            (
                float(job.tenant == FLOODING and others_first),
                job.departs_at - job.seconds,
                job.at,
                f"{number:09d}",
            ),
            (),
            DEFAULT_POWER_KW,
            job.departs_at,
            0.0 if job.departs_at == inf else job.seconds,
            tenant=f"tenant{job.tenant}" if are_named else "",
            hours=job.seconds / 3600 if job.departs_at < inf else UNKNOWN_HOURS,
        )
        for number, job in enumerate(jobs)
    ]
    trace = Trace([each.at for each in jobs], [each.seconds for each in jobs])
    setting = Setting(
        tuple(scene.connectors), period=PERIOD * scene.sessions.mean, event_latency=EVENT_LATENCY
    )
    chance = Random(f"{seed} run")  # noqa: S311
    return Simulation(setting, trace, LeastLoaded(), chance, needs=needs).run()


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


def met_table(lines: Sequence[Met]) -> str:
    """Return a line for each utilisation."""
    rows = (
        f"{each.utilisation:>11.2f}{each.without:>15.1%}{each.shared:>10.1%}{each.unshared:>10.1%}"
        for each in lines
    )
    return "\n".join(
        [f"{'utilisation':>11}{'without flood':>15}{'with it':>10}{'unshared':>10}", *rows]
    )


def main(argv: Sequence[str], _: Mapping[str, str]) -> int:
    """Run the command; return the exit status."""
    given = _parser().parse_args(argv)
    check_folder(given.json, "--json")
    scene = Scene(given.connectors, given.session, given.tenants, given.times, given.jobs)
    about: dict[str, Any] = {"tenants": scene.tenants, "times": scene.times, "jobs": scene.jobs}
    others = f"{scene.tenants - 1} tenants while another sends {scene.times:g} x its share"
    connectors = f"{sum(scene.connectors)} connectors"
    if given.departures:
        found = [met(scene, each, given.seed) for each in given.utilisation]
        sys.stdout.write(f"demands met of {others}; {connectors}\n{met_table(found)}\n")
        write_json(given.json, about | {"met": [each.as_json() for each in found]})
        return 0
    lines = [line(scene, each, given.seed) for each in given.utilisation]
    sys.stdout.write(
        f"mean wait of {others}, in mean session times; {connectors}\n{table(lines)}\n"
    )
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
    parser.add_argument(
        "--departures",
        action="store_true",
        help="vehicles leave after 1.5 to 8 of their session times: the demands met, not the wait; "
        "give sessions of real length, as --session 2000-5000",
    )
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    return parser
