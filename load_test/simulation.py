"""The command line of the simulation: ``python -m load_test simulate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from grid.errors import ConfigurationError
from load_test import simulation_options, text, trace
from load_test.files import check_folder, text_of, write_json
from load_test.simulate.compare import Comparison, compare
from load_test.simulate.scenario import Demand, Durations, Setting
from load_test.trace import Traced

_DEMAND: Final[dict[str, Any]] = {
    "jobs": 100_000,
    "utilisation": 0.9,
    "session": Durations(3.5),
    "burst": 1,
}


def main(argv: Sequence[str], _: Mapping[str, str]) -> int:
    """Run the simulation that ``argv`` describes and print its table; return the exit status."""
    parser = simulation_options.parser()
    options = parser.parse_args(argv)
    try:
        _simulate(options)
    except ConfigurationError as error:
        parser.error(str(error))
    return 0


def _simulate(options: argparse.Namespace) -> None:
    check_folder(options.json, "--json")
    check_folder(options.png, "--png")
    draw = None if options.png is None else _drawing()
    setting = _setting(options)
    demand = _demand(options, sum(setting.connectors))
    found = compare(
        options.policies,
        [_seconds(each, demand.session) for each in options.periods],
        setting,
        demand,
        lambda what: Random(f"{options.seed} {what}"),  # noqa: S311  # repeatable, not secret
        order=options.order,
        best=simulation_options.best(options) if options.departures else None,
    )
    about = _about(setting, demand, options.seed)
    sys.stdout.write(f"{about}\n{found.as_table()}\n")
    write_json(options.json, _inputs(options, setting, demand) | found.as_json())
    if draw is not None:
        draw(found, about, options.png)


def _about(setting: Setting, demand: Demand | Traced, seed: int) -> str:
    """Return one line that describes what was simulated."""
    utilisation = "–" if demand.utilisation is None else f"{demand.utilisation:.3g}"
    return (
        f"{demand.jobs:,} jobs, {sum(setting.connectors)} connectors at {len(setting.connectors)} "
        f"substations, utilisation {utilisation}, mean session {text.seconds(demand.session)}, "
        f"seed {seed}"
    )


def _inputs(
    options: argparse.Namespace, setting: Setting, demand: Demand | Traced
) -> dict[str, Any]:
    """Return all inputs of the figures, JSON-ready."""
    source = (
        {} if options.trace is None else {"trace": str(options.trace), "power_kw": _power(options)}
    )
    return {
        "seed": options.seed,
        "setting": setting.as_json(),
        "demand": demand.as_json() | source,
    }


def _demand(options: argparse.Namespace, connectors: int) -> Demand | Traced:
    if options.trace is None:
        if options.power is not None:
            raise ConfigurationError(
                "--power needs a --trace: it turns the energies there into durations"
            )
        if options.departures:
            raise ConfigurationError("--departures needs a --trace that says when vehicles leave")
        jobs, utilisation, session, burst = (
            default if (given := getattr(options, name)) is None else given
            for name, default in _DEMAND.items()
        )
        return Demand(jobs, utilisation, session, burst)
    for name in ("session", "burst"):
        if getattr(options, name) is not None:
            raise ConfigurationError(f"--{name} is for random jobs and cannot be used with --trace")
    try:
        table = text_of(options.trace), _power(options), options.jobs
        stays = trace.stays(*table) if options.departures else None
        if options.departures and stays is None:
            raise ConfigurationError("it does not say when vehicles leave, as --departures needs")
        return trace.traced(trace.parse(*table), connectors, options.utilisation, stays)
    except ConfigurationError as error:
        raise ConfigurationError(f"--trace {options.trace}: {error}") from error


def _power(options: argparse.Namespace) -> float:
    return trace.DEFAULT_POWER_KW if options.power is None else float(options.power)


def _drawing() -> Callable[[Comparison, str, Path], None]:
    try:
        from load_test.plot import write  # noqa: PLC0415  # only here is matplotlib needed
    except ImportError as error:
        raise ConfigurationError("--png needs matplotlib: pip install matplotlib") from error
    return write


def _setting(options: argparse.Namespace) -> Setting:
    return Setting(
        options.connectors,
        period=0.0,
        event_latency=None if options.no_events else options.event_latency,
        page_latency=options.page_latency,
        waits=not options.send_at_once,
        send_ahead=not options.nobody_ahead,
        in_step=options.in_step,
        outages=tuple(options.outage),
    )


def _seconds(period: str, session: float) -> float:
    try:
        return float(period[:-1]) if period.endswith("s") else float(period) * session
    except ValueError as error:
        raise ConfigurationError(
            f"a period must be a number of session times, or seconds as in 2s, got {period!r}"
        ) from error
