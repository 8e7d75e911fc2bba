"""A run against the running system, with its display and what is written when it is over."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final

from grid import settings
from grid.files import text_of
from load_test.client import Api
from load_test.exits import FAILED, INTERRUPTED, OK
from load_test.files import write_json
from load_test.plans.plan import Request
from load_test.publisher import (
    AmqpPublisher,
    ApiPublisher,
    Clock,
    Publisher,
    Sender,
    connected,
)
from load_test.report.write import write
from load_test.run import Runner
from load_test.stays import Bound, slot_for, stays
from load_test.summary import Run, ended_jobs, summarise
from load_test.view.board import Board, View
from load_test.view.plain import PlainLines
from load_test.view.terminal import LiveView

_LOOK_INTERVAL: Final = 1.0  # between two looks at the jobs, for a live view


async def run(
    requests: Iterable[Request],
    count: int,
    senders: int | None,
    options: argparse.Namespace,
    environ: Mapping[str, str],
) -> Run:
    """Send so many requests, show how far that is, and return what is known at the end."""
    clock = Clock(time.monotonic, time.time, asyncio.sleep)
    async with (
        Api(options.url, key=api_key(environ)) as api,
        _publisher(api, clock, options, environ) as publisher,
    ):
        sender = Sender(publisher, lambda: uuid.uuid4().hex, clock, options.patience)
        view = _view(options)
        look = max(_LOOK_INTERVAL, view.interval)
        runner = Runner(requests, senders, sender, api, clock, options.timeout, look)
        board = Board(count, view, clock.steady, quiet=options.quiet, out=sys.stdout)
        try:
            return await runner.run(board)
        finally:
            board.close()


@dataclass(frozen=True)
class Said:
    """What a report tells of how a run was made.

    ``argv`` is the command, ``plan`` what was planned, ready for JSON. ``speed`` is how many
    seconds pass for the vehicles in one.
    """

    argv: Sequence[str]
    plan: Mapping[str, Any]
    speed: float


def finish(run: Run, options: argparse.Namespace, said: Said) -> int:
    """Print and write what came of a run; return the exit status."""
    summary = summarise(run, _most(run, said.speed))
    sys.stdout.write(f"\n{summary.as_table()}\n")
    if options.report is not None:
        page = write(options.report, run, summary, argv=said.argv, plan=said.plan, speed=said.speed)
        sys.stderr.write(f"load_test: the report is in {page}\n")
    write_json(options.json, summary.as_json())
    if run.trouble and (summary.lost or summary.unfinished):
        sys.stderr.write(f"load_test: what became of the rest is unknown: {run.trouble}\n")
    if run.interrupted:
        return INTERRUPTED
    return OK if summary.kept else FAILED


def _most(run: Run, speed: float) -> Bound | None:
    """Return the best that was possible for the vehicles of a run; None where nobody knows."""
    known = stays(ended_jobs(run))
    if not run.capacity or all(each.departure == inf for each in known):
        return None
    try:
        from load_test.hindsight import bound  # noqa: PLC0415  # only here is scipy needed
    except ImportError:
        return None
    return bound(known, run.capacity, slot_for(known, speed))


def api_key(environ: Mapping[str, str]) -> str | None:
    """Return the api key, from the file that a variable names; None without one."""
    file = environ.get("API_KEY_FILE")
    return text_of("API_KEY_FILE", Path(file)).strip() if file else None


def _view(options: argparse.Namespace) -> View:
    is_plain = options.plain or not sys.stderr.isatty()
    return PlainLines(sys.stderr) if is_plain else LiveView(sys.stderr)


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
