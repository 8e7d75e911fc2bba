"""Where a program spends its time: samples of its stack, by module."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bench.processes import NotMeasured, Program
from bench.report import Row, Table

RATE: Final = 200  # samples a second
ROWS: Final = 15
LOOP: Final = "asyncio.base_events"
OWN: Final = ("api.", "dispatcher.", "scheduling.", "grid.")
SHARE: Final = "%"


async def profiled(title: str, running: Program, seconds: float, folder: Path) -> list[Table]:
    """Sample a program for some seconds. Raise ``NotMeasured`` if that is not possible."""
    sampler = Path(sys.executable).with_name("py-spy")
    command = str(sampler) if sampler.exists() else shutil.which("py-spy")
    if command is None:
        raise NotMeasured("py-spy is missing: it is of the dependency group bench")
    file = folder / "profile.txt"
    process = await asyncio.create_subprocess_exec(
        command, "record", "--pid", str(running.pid), "--duration", f"{seconds:.0f}",
        "--rate", str(RATE), "--format", "raw", "--output", str(file), "--full-filenames",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise NotMeasured(f"py-spy failed: {output.decode(errors='replace')[-1000:]}")
    return tables(title, file.read_text().splitlines())


def tables(title: str, stacks: Iterable[str]) -> list[Table]:
    """Return the shares of modules in folded stacks: ``frame;frame;… count``, outermost first."""
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in stacks:
        stack, _, number = line.rpartition(" ")
        modules = [_module(frame) for frame in stack.split(";")]
        if LOOP not in modules:  # another thread, which waits for work
            continue
        total += int(number)
        alone[modules[-1]] += int(number)
        for each in set(modules):
            within[each] += int(number)
    own = Counter({name: count for name, count in within.items() if name.startswith(OWN)})
    return [
        Table(f"{title}, {total:,} samples, each module alone", [SHARE], _rows(alone, total)),
        Table(f"{title}, the project's modules with what they call", [SHARE], _rows(own, total)),
    ]


def _rows(found: Counter[str], total: int) -> list[Row]:
    return [
        Row(f"`{name}`", [{SHARE: 100 * count / total}]) for name, count in found.most_common(ROWS)
    ]


def _module(frame: str) -> str:
    """Return the module of a frame such as ``run (/…/site-packages/pika/channel.py:12)``."""
    path = frame.rpartition("(")[2].rstrip(")").rpartition(":")[0]
    for root in ("site-packages/", "lib/python3.", "dist-packages/"):
        if root in path:
            path = path.rpartition(root)[2]
            path = path.partition("/")[2] if root == "lib/python3." else path
    for package in ("dispatcher/", "scheduling/", "grid/", "api/", "substation/"):
        _, found, rest = path.rpartition(f"/{package}")
        if found and not path.startswith(package):
            path = package + rest
    return path.removesuffix(".py").replace("/", ".") or frame
