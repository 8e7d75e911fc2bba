"""The command that sends charge requests: ``python -m load_test``, or ``run``."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

from grid.errors import ConfigurationError
from load_test import live, options
from load_test.plans import file
from load_test.plans.plan import Plan
from load_test.plans.schedule import DEFAULT_RATE, DEFAULT_REQUESTS, SCHEDULES

_EXAMPLES: Final = f"""
examples:
  python -m load_test                                       100 requests, 2 a second
  python -m load_test --requests 1000 --rate 50 --poisson   arrivals at random
  python -m load_test --schedule rush-hour --rate 2 --peak-rate 40 --seconds 120
  python -m load_test --schedule spike --rate 5 --peak-rate 300 --seconds 60
  python -m load_test --file run.yaml                       schedule and vehicles from a file
  python -m load_test --requests 5000 --concurrency 100 --quiet --json run.json
  AMQP_USER=load_test AMQP_PASSWORD_FILE=.secrets/load_test \\
    python -m load_test --via amqp --rate 200 --requests 2000 --quiet
  python -m load_test replay --help                         real sessions, time compressed
  python -m load_test whatif --help                         what would have happened, and what did
  python -m load_test compare A/run.json B/run.json         two reports side by side
  python -m load_test simulate --help                       policies compared in virtual time
  python -m load_test flood                                 the wait beside a client that floods
{options.ENVIRONMENT}"""
# options of a schedule, and its fields
_FIELDS: Final[Mapping[str, str]] = {
    "requests": "requests",
    "rate": "rate",
    "concurrency": "senders",
    "peak_rate": "peak_rate",
    "seconds": "seconds",
}
_PEAK: Final[Mapping[str, str]] = {"spike": "spike_rate"}  # what --peak-rate is there


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Send what ``argv`` describes, and follow it; return the exit status."""
    parser = _parser(environ)
    given = parser.parse_args(argv)
    try:
        options.check(given)
        plan = _plan(given)
    except ConfigurationError as error:
        parser.error(str(error))
    requests = plan.requests(_chance(plan), _chance(plan))
    count = sum(1 for _ in plan.offsets(_chance(plan)))
    run = asyncio.run(live.run(requests, count, plan.senders, given, environ))
    said = live.Said(argv, plan.model_dump(mode="json"), plan.speed)
    return live.finish(run, given, said)


def _chance(plan: Plan) -> Random:
    return Random(plan.seed)  # noqa: S311  # repeatable, not secret


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_test",
        description="Sends charge requests to the running system, follows each to its end, and "
        "reports whether any was lost, how evenly they were spread and how long they took.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_plan(parser)
    options.add_way(parser, environ.get("API_URL") or options.DEFAULT_URL)
    options.add_output(parser)
    return parser


def _add_plan(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is sent")
    group.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="schedule, vehicles, speed and seed from a JSON or YAML file; no other option here "
        "but --seed goes with it",
    )
    group.add_argument(
        "--schedule",
        choices=tuple(SCHEDULES),
        help="steady; poisson: at random; rush-hour: up to --peak-rate and back within --seconds; "
        "spike: 5 s at --peak-rate; sustained: --rate for --seconds; closed: see --concurrency "
        "(default steady)",
    )
    group.add_argument(
        "-n", "--requests", type=int, metavar="N", help=f"default {DEFAULT_REQUESTS}"
    )
    pace = group.add_mutually_exclusive_group()
    pace.add_argument(
        "--rate",
        type=float,
        metavar="R",
        help=f"requests a second, answered or not (default {DEFAULT_RATE:g})",
    )
    pace.add_argument(
        "--concurrency",
        type=int,
        metavar="C",
        help="as fast as possible: C senders, each sends again once it was answered",
    )
    group.add_argument(
        "--poisson", action="store_true", help="at --rate on average, at random instead of evenly"
    )
    group.add_argument(
        "--peak-rate", type=float, metavar="R", help="of a rush hour (default 10) or spike (50)"
    )
    group.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="of a rush hour (default 300), all of a spike's run (60), sustained (600)",
    )
    group.add_argument("--seed", type=int, help="the same seed sends the same requests (default 0)")


def _plan(given: argparse.Namespace) -> Plan:
    fields = {name: each for name in _FIELDS if (each := getattr(given, name)) is not None}
    kind = _kind(given, fields)
    seed = {} if given.seed is None else {"seed": given.seed}
    if given.file is not None:
        if fields or given.schedule or given.poisson:
            raise ConfigurationError(f"--file {given.file} says what is sent: give only --seed")
        return file.read(given.file).model_copy(update=seed)
    names = {
        name: _PEAK.get(kind, each) if each == "peak_rate" else each
        for name, each in _FIELDS.items()
    }
    schedule = SCHEDULES[kind]
    if unknown := [name for name in fields if names[name] not in schedule.model_fields]:
        option = "--" + unknown[0].replace("_", "-")
        raise ConfigurationError(f"{option} is not for the schedule {kind}")
    made = schedule.of(**{names[name]: each for name, each in fields.items()})
    return Plan.of(schedule=made, **seed)


def _kind(given: argparse.Namespace, fields: Mapping[str, object]) -> str:
    """Return the schedule that is meant."""
    by_option = "poisson" if given.poisson else "closed" if "concurrency" in fields else None
    if given.poisson and "concurrency" in fields:
        raise ConfigurationError("Poisson arrivals need a rate, and no --concurrency")
    if by_option and given.schedule not in (None, by_option):
        option = "--poisson" if given.poisson else "--concurrency"
        raise ConfigurationError(f"{option} is not for the schedule {given.schedule}")
    return by_option or given.schedule or "steady"
