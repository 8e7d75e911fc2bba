"""Target files from an enemy: each is there for a while in the place of the true one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Final

from deploy.local.ports import HOST
from tests.faults.stage import Stage
from tests.system import DISPATCHERS

MAX_AGE: Final = 2.0  # of the gauges: older ones would not be used
SEEN_SECONDS: Final = 2.5  # by then each dispatcher has looked at it, and what was read is old

Put = Callable[[Stage, Path], None]  # puts something where the target file is to be


def _text(text: str | bytes) -> Put:
    def put(_: Stage, path: Path) -> None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return put


def _with(*targets: str) -> Put:
    """Put the true targets, and some more."""

    def put(stage: Stage, path: Path) -> None:
        groups = json.loads(stage.system.targets.read_text())
        more = [
            {"targets": [address], "labels": {"substation": f"more{number}"}}
            for number, address in enumerate(targets)
        ]
        path.write_text(json.dumps(groups + more))

    return put


FILES: Final[dict[str, Put]] = {
    "an impossible host": _with("north..example:9100", f"{HOST}:99999", "[::1:9100"),
    "names that nobody knows": _with(*(f"n{number}.invalid:9100" for number in range(40))),
    "half a file": _text('[{"targets": ["127.0.0.1:1'),
    "nothing": _text(""),
    "brackets": _text("[" * 500_000),
    "no text": _text(b"\xff\xfe\x00" * 1000),
    "a FIFO": lambda _, path: os.mkfifo(path),
    "a folder": lambda _, path: path.mkdir(),
    "a device": lambda _, path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda _, path: path.symlink_to("nowhere"),
}


def hostile_target_files(stage: Stage) -> None:
    """Put each file in turn: the substations that were there stay, and their pages stay fresh."""
    system = stage.system
    try:
        for name in FILES:
            _show(stage, name)
    finally:
        _clear(system.targets)
        system.write_targets(system.substations)
    stage.ended()


def _show(stage: Stage, name: str) -> None:
    """Put one file there; by then whoever hangs, has ended or forgotten a substation is found."""
    system, new = stage.system, stage.system.targets.with_name("enemy")
    _clear(system.targets)
    system.write_targets(system.substations)
    FILES[name](stage, new)
    _clear(system.targets)
    new.rename(system.targets)
    stage.wait(SEEN_SECONDS + stage.length.page)
    for dispatcher in DISPATCHERS:
        what = f"{dispatcher} reads every page, with the target file: {name}"
        system.until(partial(_reads_all, stage, dispatcher), what)


def _reads_all(stage: Stage, dispatcher: str) -> bool:
    ages = stage.values(dispatcher, "dispatcher_substation_gauge_age_seconds")
    return all(ages.get(each, inf) < MAX_AGE for each in stage.system.substations)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
