"""The plugins that a node needs, in a folder of their own.

For each of a thousand modules, RabbitMQ 3.10 asks every folder on its path for it, one after the
other, and each plugin that is installed has one. With those alone that it needs, a node takes a
fifth less to boot, of which the tests do some eighty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from deploy.local.rabbitmq import SCRIPT

SERVER: Final = ("rabbit", "rabbitmq_prelaunch")
_NEEDED: Final = re.compile(r"applications\s*,\s*\[([^\]]*)\]")  # also the included, and optional
_NAME: Final = re.compile(r"\w+")


def link_needed(plugins: Iterable[str], folder: Path) -> None:
    """Link the server's applications, these plugins, and all that they need, into a folder."""
    for name, source in needed([*SERVER, *plugins], installed()).items():
        link = folder / source.name
        if not link.exists():
            link.symlink_to(source)
        assert (link / "ebin" / f"{name}.app").exists(), f"{link} is of another RabbitMQ"


def installed() -> dict[str, Path]:
    """Return the folder of each application that comes with RabbitMQ."""
    home = SCRIPT.resolve().parents[1]
    found = {file.stem: file.parents[1] for file in home.glob("plugins/*/ebin/*.app")}
    assert SERVER[0] in found, f"{home}/plugins does not have RabbitMQ"
    return found


def needed(names: Iterable[str], among: dict[str, Path]) -> dict[str, Path]:
    """Return the applications with these names, and those that they need; not Erlang's own."""
    found: dict[str, Path] = {}
    left = [*names]
    while left:
        name = left.pop()
        if name in found or name not in among:
            continue
        found[name] = among[name]
        text = (among[name] / "ebin" / f"{name}.app").read_text(errors="replace")
        left += [each for names in _NEEDED.findall(text) for each in _NAME.findall(names)]
    return found
