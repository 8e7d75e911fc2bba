"""The plugins that a node needs, in a folder of their own.

RabbitMQ 3.10 looks through all plugins that are installed when it boots. With those alone that it
needs, it takes a fifth less time, and the tests boot some forty nodes.
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


def link_needed(plugins: Iterable[str], folder: Path) -> dict[str, str]:
    """Link the server's applications, these plugins, and all that they need, into a folder.

    Return the variable that leads a node there; none where RabbitMQ is installed elsewhere.
    """
    among = installed()
    if not among:
        return {}
    for name, source in needed([*SERVER, *plugins], among).items():
        link = folder / source.name
        if not link.exists():
            link.symlink_to(source)
        assert (link / "ebin" / f"{name}.app").exists(), f"{link} is of another RabbitMQ"
    return {"RABBITMQ_PLUGINS_DIR": str(folder)}


def installed() -> dict[str, Path]:
    """Return the folder of each application that comes with RabbitMQ; none if it is elsewhere."""
    home = SCRIPT.resolve().parents[1]
    found = {file.stem: file.parents[1] for file in home.glob("plugins/*/ebin/*.app")}
    return found if SERVER[0] in found else {}


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
