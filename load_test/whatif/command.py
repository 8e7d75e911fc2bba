"""The command line of what would have happened: ``python -m load_test whatif``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from random import Random
from typing import Final

from grid.errors import ConfigurationError
from load_test import options, text
from load_test.exits import FAILED, OK
from load_test.files import check_folder, write_json
from load_test.live import api_key
from load_test.records import Job, Substation
from load_test.simulate.policies import POLICIES
from load_test.simulate.scenario import Site
from load_test.simulation_options import policies
from load_test.whatif import source
from load_test.whatif.latencies import NONE, measured
from load_test.whatif.replay import Chosen, World, chosen, replayed
from load_test.whatif.source import Recording
from load_test.whatif.table import Agreement, Column, agreement, column, mean_of, table
from scheduling.order import DEFAULT as DEFAULT_ORDER
from scheduling.order import ORDERS
from scheduling.policies import DEFAULT

_EXAMPLES: Final = """
The first column is what did happen, the second the same jobs replayed as it was: how far these two
are apart is how much the others can be trusted. A replay knows the arrivals, what was requested,
and how long each session took; it measures the latencies of the real system from the jobs. It does
not know of outages, drains and limits that came and went meanwhile.

examples:
  python -m load_test whatif --url http://127.0.0.1:7000 --policies least-loaded,round-robin
  python -m load_test whatif --connectors substation1=80       one substation with more connectors
  python -m load_test whatif --limits substation2=10 --without substation3
  python -m load_test whatif report/run.json --policies most-headroom
  curl -s http://127.0.0.1:7000/charges.csv > jobs.csv
  python -m load_test whatif jobs.csv --connectors-were 50 --connectors 30
  python -m load_test whatif --check 2                         is the replay within 2 %?

environment: API_URL (see --url), API_KEY_FILE (a file with the key, if the api needs one).

exit status: 0; 1 if --check finds that the replay as it was is further off; 2 wrong usage.
"""


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print what would have happened; return the exit status."""
    parser = _parser(environ)
    given = parser.parse_args(argv)
    try:
        return _compare(given, _recording(given, environ))
    except ConfigurationError as error:
        parser.error(str(error))


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_test whatif",
        description="Replays the system's own jobs in virtual time, as they were and under other "
        "policies, limits or numbers of connectors, and prints what would have happened beside "
        "what did.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_source(parser, environ.get("API_URL") or options.DEFAULT_URL)
    group = parser.add_argument_group("what would have been otherwise")
    group.add_argument(
        "--policies", type=policies, metavar="NAMES", help=f"of {', '.join(POLICIES)}"
    )
    for name, what in (
        ("--connectors", "connectors: N for each substation, or NAME=N,…"),
        ("--limits", "most sessions that an operator allows, in the same form"),
        ("--rated-power", "rated powers in kW, in the same form"),
    ):
        group.add_argument(name, type=_numbers, default={}, metavar="LIST", help=what)
    group.add_argument(
        "--without", type=lambda t: t.split(","), default=[], metavar="NAMES", help="substations"
    )
    group = parser.add_argument_group("what is shown")
    group.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    group.add_argument(
        "--check",
        type=float,
        metavar="PERCENT",
        help="fail if the mean wait of every draw, or a share of the load, is further from what "
        "did happen",
    )
    group.add_argument(
        "--draws",
        type=int,
        default=3,
        metavar="N",
        help="replays of each column, whose figures are averaged (default 3): equal substations "
        "are drawn among at random",
    )
    group.add_argument("--seed", type=int, default=0, help="of the first of them (default 0)")
    return parser


def _add_source(parser: argparse.ArgumentParser, url: str) -> None:
    group = parser.add_argument_group("what did happen")
    group.add_argument(
        "source",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="run.json of a --report, or an export (GET /charges.csv); otherwise the api is read",
    )
    group.add_argument("--url", default=url, help=f"the api's address (here {url})")
    group.add_argument("--since", metavar="TIME", help="requested then or later (RFC 3339)")
    group.add_argument("--until", metavar="TIME", help="requested before that")
    group.add_argument(
        "--connectors-were",
        type=_numbers,
        default={},
        metavar="LIST",
        help="connectors as they were, where the source does not say: N for each, or NAME=N,…",
    )
    group.add_argument(
        "--was", choices=tuple(POLICIES), default=DEFAULT, help=f"the policy (default {DEFAULT})"
    )
    group.add_argument(
        "--order",
        choices=tuple(ORDERS),
        default=DEFAULT_ORDER,
        help=f"the dispatcher's ORDER, in all columns (default {DEFAULT_ORDER})",
    )
    group.add_argument(
        "--charge-speed",
        type=float,
        default=1.0,
        metavar="N",
        help="the dispatcher's CHARGE_SPEED (default 1)",
    )
    group.add_argument(
        "--nobody-ahead", action="store_true", help="the dispatcher had SEND_AHEAD=false"
    )
    group.add_argument(
        "--period", type=float, default=0.5, metavar="SECONDS", help="between two pages (0.5)"
    )


def _recording(given: argparse.Namespace, environ: Mapping[str, str]) -> Recording:
    if given.draws < 1:
        raise ConfigurationError(f"--draws must be at least 1, got {given.draws}")
    if not (isfinite(given.charge_speed) and given.charge_speed > 0):
        raise ConfigurationError(f"--charge-speed must be above 0, got {given.charge_speed:g}")
    check_folder(given.json, "--json")
    if given.source is not None:
        if given.since or given.until:
            raise ConfigurationError("--since and --until are for the api, not for a file")
        return source.of_file(given.source)
    query = {name: each for name in ("since", "until") if (each := getattr(given, name))}
    return asyncio.run(source.of_api(given.url, api_key(environ), query))


def _compare(given: argparse.Namespace, recording: Recording) -> int:
    found = chosen(recording.jobs)
    if not found.jobs:
        raise ConfigurationError("there is no job that has ended: nothing can be replayed")
    were = _sites(recording.substations, found.jobs, given.connectors_were)
    ideal = World(were, NONE, given.period, not given.nobody_ahead, given.charge_speed)
    world = replace(ideal, latencies=measured(recording.jobs, ideal.places))

    def draws(name: str, policy: str, in_world: World) -> list[Column]:
        made = []
        for number in range(given.draws):
            # the same draws for all, so that none depends on those before it
            random = Random(given.seed + number)  # noqa: S311  # repeatable, not secret
            gone = replayed(found.jobs, in_world, policy, random, ORDERS[given.order]())
            impossible = len(found.jobs) - len(gone)
            made.append(column(name, gone, in_world.sites, impossible, recording.speed))
        return made

    did = column("did happen", found.jobs, were, speed=recording.speed)
    same = draws("as it was", given.was, world)
    other = replace(world, sites=_changed(were, given))
    names = given.policies or ([given.was] if other != world else list(POLICIES))
    others = [
        mean_of(draws(name, name, other)) for name in names if name != given.was or other != world
    ]
    columns, how_close = [did, mean_of(same), *others], agreement(did, same)
    sys.stdout.write(f"{_about(found, world, other)}\n\n{table(columns)}\n\n{_trust(how_close)}\n")
    value = {
        "latencies": world.latencies._asdict(),
        "agreement": how_close._asdict(),
        "columns": [each.as_json() for each in columns],
    }
    write_json(given.json, value)
    is_close = given.check is None or how_close.within(given.check / 100)
    return OK if is_close else FAILED


def _about(found: Chosen, world: World, other: World) -> str:
    latencies = ", ".join(
        f"{name} {text.seconds(each)}" for name, each in world.latencies._asdict().items()
    )
    lines = [f"{len(found.jobs):,} jobs; latencies: {latencies}"]
    if found.left_out:
        reasons = ", ".join(f"{count:,} {why}" for why, count in found.left_out.items())
        lines.append(f"left out: {reasons}")
    lines.append(f"as it was: {_sizes(world.sites)}")
    if other != world:
        lines.append(f"what if:   {_sizes(other.sites)}")
    return "\n".join(lines)


def _sizes(sites: Sequence[Site]) -> str:
    parts = []
    for each in sites:
        limit = "" if each.limit is None else f", limit {each.limit}"
        rated = "" if each.rated_power_kw is None else f", {each.rated_power_kw:g} kW"
        parts.append(f"{each.name} {each.connectors}{limit}{rated}")
    return "; ".join(parts)


def _trust(how_close: Agreement) -> str:
    wait = text.seconds(how_close.seconds)
    if how_close.wait is not None:
        wait += f" or {100 * how_close.wait:+.1f} %"
    draws = f"{100 * how_close.lowest:+.1f} to {100 * how_close.highest:+.1f} %"
    return (
        f"The replay as it was differs from what did happen by {wait} in the mean wait (single "
        f"draws: {draws}),\nand by at most {100 * how_close.share:.1f} points in a substation's "
        "share of the load."
    )


def _sites(
    substations: Sequence[Substation], jobs: Sequence[Job], given: Mapping[str, float]
) -> list[Site]:
    """Return the substations as they were, with the connectors given where those are."""
    named = {each.id for each in substations}
    used = {each.substation for each in jobs if each.substation is not None}
    known = [*substations, *(Substation(name, None, eligible=True) for name in used - named)]
    _check_names(given, [each.id for each in known], "--connectors-were")
    sized = [each._replace(connectors=_of(given, each.id) or each.connectors) for each in known]
    return sorted(source.sites(sized, jobs), key=lambda each: text.natural(each.name))


def _changed(sites: Sequence[Site], given: argparse.Namespace) -> list[Site]:
    """Return the substations as they would have been."""
    names = [each.name for each in sites]
    for option in ("connectors", "limits", "rated_power"):
        _check_names(getattr(given, option), names, "--" + option.replace("_", "-"))
    _check_names(dict.fromkeys(given.without, 1.0), names, "--without")
    found = []
    for site in sites:
        if site.name in given.without:
            continue
        connectors = _of(given.connectors, site.name)
        limit = _of(given.limits, site.name)
        rated = _of(given.rated_power, site.name)
        found.append(
            site._replace(
                connectors=site.connectors if connectors is None else int(connectors),
                limit=site.limit if limit is None else int(limit),
                rated_power_kw=site.rated_power_kw if rated is None else rated,
            )
        )
    if not found:
        raise ConfigurationError("--without leaves no substation")
    return found


def _of(given: Mapping[str, float], name: str) -> float | None:
    return given.get(name, given.get(""))


def _check_names(given: Mapping[str, float], known: Sequence[str], option: str) -> None:
    if unknown := [each for each in given if each and each not in known]:
        raise ConfigurationError(
            f"{option}: there is no substation {unknown[0]}, only {', '.join(known)}"
        )


def _numbers(text: str) -> dict[str, float]:
    """Return the number for each name, or for the name "", which stands for all."""
    found = {}
    for part in text.split(","):
        name, _, number = part.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = 0.0
        if not 1 <= found[name] < 1e9:  # noqa: PLR2004
            raise argparse.ArgumentTypeError(
                f"must be a number of 1 or more, or NAME=N,…: {part!r}"
            )
    return found
