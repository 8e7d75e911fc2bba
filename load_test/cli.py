"""The command line: ``python -m load_test``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from grid import settings
from grid.errors import ConfigurationError, GridError
from grid.files import text_of
from load_test import simulation
from load_test.board import Board
from load_test.client import Api
from load_test.outcome import DEFAULT_TIMEOUT
from load_test.plan import DEFAULT_RATE, Plan
from load_test.publisher import (
    DEFAULT_RETRY_TIMEOUT,
    AmqpPublisher,
    ApiPublisher,
    Clock,
    Publisher,
    Sender,
    connected,
)
from load_test.report import Run, summarise
from load_test.run import Runner

DEFAULT_URL: Final = "http://127.0.0.1:7000"
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_EXAMPLES: Final = """
examples:
  python -m load_test                                       100 requests, 2 a second
  python -m load_test --requests 1000 --rate 50 --poisson   arrivals at random
  python -m load_test --requests 5000 --concurrency 100 --quiet --json run.json
  AMQP_USER=load_test AMQP_PASSWORD_FILE=.secrets/load_test \\
    python -m load_test --via amqp --rate 200 --requests 2000 --quiet
  python -m load_test simulate --help                       policies compared in virtual time

environment: API_URL (see --url), API_KEY_FILE (a file with the key, if the api needs one); for
--via amqp AMQP_URL, AMQP_USER, AMQP_PASSWORD_FILE.

exit status: 0 every accepted request has ended; 1 a request was lost, or none was accepted;
2 wrong usage; 130 interrupted by Ctrl-C, after a summary of what is known by then.
"""


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command in ``argv`` (without one, the load test); return the exit status."""
    command = _COMMANDS.get(argv[0]) if argv else None
    try:
        return _load(argv, environ) if command is None else command(argv[1:], environ)
    except KeyboardInterrupt:
        return INTERRUPTED
    except GridError as error:
        sys.stderr.write(f"load_test: {error}\n")
        return USAGE if isinstance(error, ConfigurationError) else FAILED


def _load(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    parser = _parser(environ)
    options = parser.parse_args(argv)
    try:
        plan = _plan(options)
    except ConfigurationError as error:
        parser.error(str(error))
    run = asyncio.run(_run(plan, options, environ))
    return _report(run, options.json)


_COMMANDS: Final[dict[str, Callable[[Sequence[str], Mapping[str, str]], int]]] = {
    "run": _load,
    "simulate": lambda argv, _: simulation.main(argv),
}


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_test",
        description="Sends charge requests to the running system, follows each to its end, and "
        "reports whether any was lost, how evenly they were spread and how long they took.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_plan(parser)
    _add_way(parser, environ.get("API_URL") or DEFAULT_URL)
    _add_output(parser)
    return parser


def _add_plan(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is sent")
    group.add_argument("-n", "--requests", type=int, default=100, metavar="N", help="default 100")
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
        "--seed", type=int, default=0, help="the same seed sends the same requests (default 0)"
    )


def _add_way(parser: argparse.ArgumentParser, url: str) -> None:
    group = parser.add_argument_group("how it is sent")
    group.add_argument(
        "--via",
        choices=("api", "amqp"),
        default="api",
        help="through the api (the default), or straight to RabbitMQ; "
        "the jobs' states are read from the api in either case",
    )
    group.add_argument("--url", default=url, help=f"the api's address (here {url})")
    group.add_argument(
        "--no-wait",
        action="store_true",
        help="ask for answers as soon as RabbitMQ has confirmed, without the decision",
    )
    group.add_argument(
        "--patience",
        type=float,
        default=DEFAULT_RETRY_TIMEOUT,
        metavar="SECONDS",
        help="how long a request that is not accepted is sent again "
        f"(default {DEFAULT_RETRY_TIMEOUT:g})",
    )
    group.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help="an accepted request without an end counts as lost after so long without new events "
        f"(default {DEFAULT_TIMEOUT:g})",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is shown")
    group.add_argument(
        "-q", "--quiet", action="store_true", help="print no lines for single requests"
    )
    group.add_argument(
        "--json", type=Path, metavar="FILE", help="write the summary to this file as well"
    )


def _plan(options: argparse.Namespace) -> Plan:
    rate = options.rate
    if rate is None and options.concurrency is None:
        rate = DEFAULT_RATE
    for name in ("patience", "timeout"):
        if not getattr(options, name) >= 0:
            raise ConfigurationError(f"{name} must not be negative, got {getattr(options, name)}")
    if options.json is not None and not options.json.parent.is_dir():
        raise ConfigurationError(f"there is no folder {options.json.parent} to write --json to")
    return Plan(options.requests, rate, options.concurrency, options.poisson)


def _key(environ: Mapping[str, str]) -> str | None:
    """Return the api key, from the file that a variable names; None without one."""
    file = environ.get("API_KEY_FILE")
    return text_of("API_KEY_FILE", Path(file)).strip() if file else None


async def _run(plan: Plan, options: argparse.Namespace, environ: Mapping[str, str]) -> Run:
    clock = Clock(time.monotonic, time.time, asyncio.sleep)
    key = _key(environ)
    async with (
        Api(options.url, key=key) as api,
        _publisher(api, clock, options, environ) as publisher,
    ):
        sender = Sender(publisher, lambda: uuid.uuid4().hex, clock, options.patience)
        runner = Runner(plan, options.seed, sender, api, clock, options.timeout)
        board = Board(plan.requests, quiet=options.quiet, out=sys.stdout, err=sys.stderr)
        try:
            return await runner.run(board)
        finally:
            board.close()


@asynccontextmanager
async def _publisher(
    api: Api, clock: Clock, options: argparse.Namespace, environ: Mapping[str, str]
) -> AsyncIterator[Publisher]:
    if options.via == "api":
        yield ApiPublisher(api, wait=not options.no_wait)
        return
    silent = options.quiet or options.no_wait
    async with connected(settings.parse(settings.Settings, environ).broker_urls()) as link:
        yield AmqpPublisher(link, clock, None if silent else api)


def _report(run: Run, path: Path | None) -> int:
    summary = summarise(run)
    sys.stdout.write(f"\n{summary.as_table()}\n")
    if path is not None:
        path.write_text(json.dumps(summary.as_json(), indent=2) + "\n", encoding="utf-8")
    if run.trouble and (summary.lost or summary.unfinished):
        sys.stderr.write(f"load_test: what became of the rest is unknown: {run.trouble}\n")
    if run.interrupted:
        return INTERRUPTED
    return OK if summary.kept else FAILED
