"""The options of ``python -m load_test simulate``."""

from __future__ import annotations

import argparse
import re
from math import isfinite
from pathlib import Path
from typing import Final

from grid.errors import ConfigurationError
from load_test.simulate.policies import POLICIES
from load_test.simulate.scenario import Durations, Outage
from load_test.stays import SLOT_SECONDS, Best
from load_test.trace import DEFAULT_POWER_KW
from scheduling.order import DEFAULT as DEFAULT_ORDER
from scheduling.order import ORDERS

_EXAMPLES: Final = """
examples:
  python -m load_test simulate                              8 connectors, one at each substation
  python -m load_test simulate --connectors 3x10 --session 2-5 --utilisation 0.98
  python -m load_test simulate --connectors 2,4,8,16 --burst 16 --policies least-loaded
  python -m load_test simulate --no-events --send-at-once   decisions by metrics pages alone
  python -m load_test simulate --trace sessions.csv.gz --connectors 5x10 --png figure.png
  python -m load_test simulate --trace sessions.csv.gz --connectors 3x10 --departures

The floor is one queue in front of all connectors, for the same arrivals and durations: no policy
that does not know durations has a shorter mean wait. Waits and T are in mean session times. All
policies but least-loaded send at once, and use only the gauge of the last page.

A trace is CSV, plain or gzipped, with a header: arrival_seconds,duration_seconds (the latter the
length of a session), or sessions in the format of ACN-Data: arrival, departure, delivered_energy
(kWh). These charge at --power, at most until they leave. The first arrival is at 0 s of the
simulation.
"""
_EQUAL: Final = re.compile(r"(\d+)x(\d+)")
_RANGE: Final = re.compile(r"([\d.]+)-([\d.]+)")


def parser() -> argparse.ArgumentParser:
    """Return the parser; an option that a ``--trace`` can replace is None by default."""
    parser = argparse.ArgumentParser(
        prog="python -m load_test simulate",
        description="Compares policies in virtual time: the dispatcher's own scheduler sends jobs "
        "to simulated substations.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_demand(parser)
    _add_setting(parser)
    group = parser.add_argument_group("what is compared")
    group.add_argument(
        "--policies", type=policies, default=list(POLICIES), metavar="NAMES", help="default all"
    )
    group.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the figures to this file as well, with all inputs",
    )
    group.add_argument(
        "--png",
        type=Path,
        metavar="FILE",
        help="draw the mean waits into this file (needs matplotlib)",
    )
    return parser


def _add_demand(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what arrives")
    group.add_argument(
        "-n",
        "--jobs",
        type=int,
        metavar="N",
        help="number of jobs (default 100000); with --trace its first N",
    )
    group.add_argument(
        "--utilisation",
        type=float,
        metavar="SHARE",
        help="default 0.9; with --trace its arrivals are stretched to this utilisation; "
        "without the option they are not changed",
    )
    group.add_argument(
        "--session",
        type=durations,
        metavar="SECONDS",
        help="mean of exponential sessions, or LOW-HIGH for uniform ones (default 3.5)",
    )
    group.add_argument(
        "--burst", type=int, metavar="N", help="jobs that arrive at one instant (default 1)"
    )
    group.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="take arrivals and durations from a table instead",
    )
    group.add_argument(
        "--departures",
        action="store_true",
        help="vehicles leave as the --trace says, charged or not; then the utilisation may be "
        "above 1, and what they got stands beside the best that is possible",
    )
    add_slot(group)
    group.add_argument(
        "--power",
        type=float,
        metavar="KW",
        help=f"power of a session, if the table has energies (default {DEFAULT_POWER_KW:g})",
    )
    group.add_argument(
        "--seed", type=int, default=0, help="the same seed gives the same figures (default 0)"
    )


def _add_setting(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the substations, and what is known of them")
    group.add_argument(
        "--connectors",
        type=connectors,
        default=(1,) * 8,
        metavar="LIST",
        help="SUBSTATIONSxCONNECTORS, or the connectors of each: 2,4,8,16 (default 8x1)",
    )
    group.add_argument(
        "--periods",
        type=lambda text: text.split(","),
        default=["0", "0.5", "1", "2", "5", "10"],
        metavar="LIST",
        help="time between two pages, in mean session times, or in seconds with an s; 0: no gap "
        "(default 0,0.5,1,2,5,10)",
    )
    group.add_argument("--in-step", action="store_true", help="read all pages at the same instant")
    group.add_argument("--page-latency", type=float, default=0.0, metavar="SECONDS", help="0")
    group.add_argument("--event-latency", type=float, default=0.01, metavar="SECONDS", help="0.01")
    group.add_argument("--no-events", action="store_true", help="simulate without the event log")
    group.add_argument(
        "--nobody-ahead",
        action="store_true",
        help="all jobs wait centrally: none is dispatched ahead to a full substation",
    )
    group.add_argument(
        "--order",
        choices=tuple(ORDERS),
        default=DEFAULT_ORDER,
        help=f"of the jobs that wait (default {DEFAULT_ORDER})",
    )
    group.add_argument(
        "--send-at-once", action="store_true", help="least-loaded sends at once as well"
    )
    group.add_argument(
        "--outage",
        type=_outage,
        action="append",
        default=[],
        metavar="N:AT:BACK",
        help="substation N, from 1, is away from second AT to BACK; may be given several times",
    )


def add_slot(group: argparse._ArgumentGroup) -> None:
    """Add how coarse the bound is."""
    group.add_argument(
        "--slot",
        type=float,
        default=SLOT_SECONDS / 60,
        metavar="MINUTES",
        help="of the best that is possible in hindsight: shorter ones are nearer to it, and take "
        f"longer; 0 leaves it out (default {SLOT_SECONDS / 60:g})",
    )


def best(given: argparse.Namespace, *, speed: float = 1.0, exact: bool = True) -> Best | None:
    """Return what returns the bound, as coarse as is wanted; None without slots.

    ``speed`` is how many seconds pass for the vehicles in one; ``exact`` is as in ``hindsight``.
    """
    if not (isfinite(given.slot) and given.slot >= 0):
        raise ConfigurationError(f"--slot must be 0 minutes or more, got {given.slot:g}")
    if not given.slot:
        return None
    try:
        from load_test.hindsight import bound  # noqa: PLC0415  # only here is scipy needed
    except ImportError as error:
        raise ConfigurationError(
            "the best that is possible needs scipy: pip install scipy, or --slot 0 to leave it out"
        ) from error
    slot_seconds = 60 * given.slot / speed
    return lambda stays, connectors: bound(stays, connectors, slot_seconds, exact=exact)


def policies(text: str) -> list[str]:
    """Return the policies that a list names."""
    names = text.split(",")
    if unknown := [name for name in names if name not in POLICIES]:
        raise argparse.ArgumentTypeError(f"no policy {unknown[0]!r}: one of {', '.join(POLICIES)}")
    return names


def durations(text: str) -> Durations:
    """Return the mean of exponential sessions, or LOW-HIGH of uniform ones."""
    limits = _RANGE.fullmatch(text)
    return Durations(float(limits[1]), float(limits[2])) if limits else Durations(float(text))


def connectors(text: str) -> tuple[int, ...]:
    """Return the connectors of each substation: 2,4,8 or SUBSTATIONSxCONNECTORS."""
    if equal := _EQUAL.fullmatch(text):
        return (int(equal[2]),) * int(equal[1])
    return tuple(map(int, text.split(",")))


def _outage(text: str) -> Outage:
    number, at, back = text.split(":")
    return Outage(int(number) - 1, float(at), float(back))
