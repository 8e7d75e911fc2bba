"""The command line of the simulation: ``python -m load_test simulate``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from dispatcher.policy import POLICIES
from grid.errors import ConfigurationError
from load_test.simulate.compare import compare
from load_test.simulate.scenario import Demand, Durations, Outage, Setting

_EXAMPLES: Final = """
examples:
  python -m load_test simulate                              8 connectors, one at each substation
  python -m load_test simulate --connectors 3x10 --session 2-5 --utilisation 0.98
  python -m load_test simulate --connectors 2,4,8,16 --burst 16 --policies least-loaded
  python -m load_test simulate --no-events --send-at-once   what the pages alone are good for

The floor is one queue in front of all connectors, for the same arrivals and durations: no policy
that does not know durations has a shorter mean wait. Waits and T are in mean session times.
"""
_EQUAL: Final = re.compile(r"(\d+)x(\d+)")
_RANGE: Final = re.compile(r"([\d.]+)-([\d.]+)")


def main(argv: Sequence[str]) -> int:
    """Run the simulation that ``argv`` describes and print its table; gives the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        _simulate(options)
    except ConfigurationError as error:
        parser.error(str(error))
    return 0


def _simulate(options: argparse.Namespace) -> None:
    if options.json is not None and not options.json.parent.is_dir():
        raise ConfigurationError(f"there is no folder {options.json.parent} to write --json to")
    demand = Demand(options.jobs, options.utilisation, options.session, options.burst)
    found = compare(
        options.policies,
        [_seconds(each, demand.durations.mean) for each in options.periods],
        _setting(options),
        demand,
        lambda what: Random(f"{options.seed} {what}"),  # noqa: S311  # repeatable, not secret
    )
    sys.stdout.write(f"{found.as_table()}\n")
    if options.json is not None:
        options.json.write_text(json.dumps(found.as_json(), indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_test simulate",
        description="Compares policies in virtual time: the dispatcher's own policy and ledger "
        "send jobs to simulated substations.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_demand(parser)
    _add_setting(parser)
    group = parser.add_argument_group("what is compared")
    group.add_argument(
        "--policies", type=_names, default=list(POLICIES), metavar="NAMES", help="default all"
    )
    group.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser


def _add_demand(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what arrives")
    group.add_argument("-n", "--jobs", type=int, default=100_000, metavar="N")
    group.add_argument("--utilisation", type=float, default=0.9, metavar="SHARE", help="0.9")
    group.add_argument(
        "--session",
        type=_durations,
        default=Durations(3.5),
        metavar="SECONDS",
        help="exponential of that mean, or LOW-HIGH for a uniform draw (default 3.5)",
    )
    group.add_argument("--burst", type=int, default=1, metavar="N", help="so many at one instant")
    group.add_argument("--seed", type=int, default=0, help="the same seed, the same figures (0)")


def _add_setting(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the substations, and what is known of them")
    group.add_argument(
        "--connectors",
        type=_connectors,
        default=(1,) * 8,
        metavar="LIST",
        help="SUBSTATIONSxCONNECTORS, or the connectors of each: 2,4,8,16 (default 8x1)",
    )
    group.add_argument(
        "--periods",
        type=lambda text: text.split(","),
        default=["0", "0.5", "1", "2", "5", "10"],
        metavar="LIST",
        help="between two pages, in mean session times, or with an s in seconds; 0: always known "
        "(default 0,0.5,1,2,5,10)",
    )
    group.add_argument("--in-step", action="store_true", help="all pages at the same instant")
    group.add_argument("--page-latency", type=float, default=0.0, metavar="SECONDS", help="0")
    group.add_argument("--event-latency", type=float, default=0.01, metavar="SECONDS", help="0.01")
    group.add_argument("--no-events", action="store_true", help="the event log is cut off")
    group.add_argument(
        "--send-at-once", action="store_true", help="least-loaded does not wait centrally either"
    )
    group.add_argument(
        "--outage",
        type=_outage,
        metavar="N:AT:BACK",
        help="substation N, from 1, is away from second AT to BACK",
    )


def _setting(options: argparse.Namespace) -> Setting:
    return Setting(
        options.connectors,
        period=0.0,
        event_latency=None if options.no_events else options.event_latency,
        page_latency=options.page_latency,
        waits=not options.send_at_once,
        in_step=options.in_step,
        outage=options.outage,
    )


def _seconds(period: str, session: float) -> float:
    try:
        return float(period[:-1]) if period.endswith("s") else float(period) * session
    except ValueError as error:
        raise ConfigurationError(f"a period is a number, or one with an s: {period!r}") from error


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in POLICIES]:
        raise argparse.ArgumentTypeError(f"no policy {unknown[0]!r}: one of {', '.join(POLICIES)}")
    return names


def _durations(text: str) -> Durations:
    limits = _RANGE.fullmatch(text)
    return Durations(float(limits[1]), float(limits[2])) if limits else Durations(float(text))


def _connectors(text: str) -> tuple[int, ...]:
    if equal := _EQUAL.fullmatch(text):
        return (int(equal[2]),) * int(equal[1])
    return tuple(map(int, text.split(",")))


def _outage(text: str) -> Outage:
    number, at, back = text.split(":")
    return Outage(int(number) - 1, float(at), float(back))
