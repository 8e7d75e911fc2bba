"""``python -m bench``: what a request costs, beside what others need for the same; see --help."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from bench import (
    api,
    api_start,
    broker_settings,
    chain,
    codecs,
    core,
    counts,
    decision,
    machine,
    messages,
    profiles,
    relay,
    substation,
)
from bench.node import RabbitMQ, rabbitmq
from bench.processes import ROOT
from bench.report import Part, insert, render
from bench.sizes import FULL, QUICK, Sizes
from grid.errors import GridError

DOCUMENT: Final = ROOT / "docs" / "performance.md"
Measure = Callable[[RabbitMQ, Path, Sizes], Awaitable[Part]]

PARTS: Final[dict[str, Measure]] = {
    "relay": relay.measure,
    "chain": chain.measure,
    "counts": counts.measure,
    "api": api.measure,
    "api-start": api_start.measure,
    "codecs": codecs.measure,
    "decision": decision.measure,
    "core": core.measure,
    "substation": substation.measure,
    "profile": profiles.measure,
}
# the basis of design decisions: measured only if named, and only printed
ON_REQUEST: Final[dict[str, Measure]] = {
    "messages": messages.measure,
    "broker": broker_settings.measure,
}
PARTS_HELP: Final = (
    f"of {', '.join(PARTS)}; all of them where none is named. By name only, and printed only: "
    f"{', '.join(ON_REQUEST)}"
)


def run(names: Sequence[str], sizes: Sizes, document: Path, command: str) -> list[str]:
    """Start a node, and measure parts one after the other; return which of them failed."""
    with tempfile.TemporaryDirectory(prefix="grid-bench-") as name:
        folder = Path(name)
        with rabbitmq(folder / "rabbitmq") as broker:
            described = machine.described(broker.version(), command)
            if set(names) <= set(ON_REQUEST):
                sys.stdout.write(f"{described}\n")
            else:
                _write(document, "machine", described)
            return asyncio.run(measure(broker, folder, names, sizes, document))


async def measure(
    broker: RabbitMQ, folder: Path, names: Sequence[str], sizes: Sizes, document: Path
) -> list[str]:
    """Measure parts one after the other; print each, and write it into the document.

    One that fails does not keep the others from being measured; return the names of these.
    """
    failed = []
    for each in names:
        begun = time.monotonic()
        try:
            text = render(await {**PARTS, **ON_REQUEST}[each](broker, folder, sizes))
        except (GridError, OSError) as error:  # TimeoutError among them
            failed.append(each)
            sys.stdout.write(f"{each} was not measured: {error or type(error).__name__}\n\n")
            continue
        sys.stdout.write(f"{text}\n({each}: {time.monotonic() - begun:.0f} s)\n\n")
        sys.stdout.flush()
        if each in PARTS:
            _write(document, each, text)
    return failed


def _write(document: Path, name: str, text: str) -> None:
    before = document.read_text(encoding="utf-8") if document.exists() else ""
    document.write_text(insert(before, name, text), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=PARTS_HELP)
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="written to (%(default)s)")
    given = parser.parse_args(arguments)
    every = [*PARTS, *ON_REQUEST]
    if unknown := sorted(set(given.parts) - set(every)):
        parser.error(f"there is no part {unknown[0]}: there are {', '.join(every)}")
    quick = os.environ.get("QUICK", "0") not in ("", "0")
    names = [each for each in every if each in given.parts] or list(PARTS)
    command = " ".join(
        [
            *(["QUICK=1"] if quick else []),
            "make bench",
            *([f'ARGS="{" ".join(given.parts)}"'] if given.parts else []),
        ]
    )
    if failed := run(names, QUICK if quick else FULL, given.document, command):
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except GridError as error:
        sys.exit(f"not measured: {error}")
