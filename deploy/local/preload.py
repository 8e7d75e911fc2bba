"""The modules of a RabbitMQ node, which Erlang loads folder by folder when the node boots.

A node needs some 1,200 modules. For each that it loads, Erlang 25 looks through eighty folders and
copies its table of all functions: one by one, they take two thirds of the time that the node takes
to boot. All modules of a folder that is known take hardly more than one.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

FILE: Final = "code_folders"  # in the node's own folder, which is its HOME
SERVER: Final = ("rabbit", "rabbitmq_prelaunch")
# Evaluated before RabbitMQ is started. Its tools, which may get the same variables, boot otherwise
# and load nothing. What is not loaded here is loaded as usual.
_LOAD: Final = (
    f'case {{init:get_argument(boot),file:consult(filename:join(os:getenv("HOME"),"{FILE}"))}} of '
    '{{ok,[["start_sasl"]]},{ok,[Folders]}}->[code:ensure_modules_loaded('
    '[list_to_atom(filename:rootname(F))||F<-filelib:wildcard("*.beam",D)])'
    "||D<-Folders,code:add_patha(D)==true];_->ok end"
)
FLAGS: Final = "-eval " + re.sub(r'([ "])', r"\\\1", _LOAD)  # of ERL_AFLAGS, split as by a shell
_NEEDED: Final = re.compile(r"applications\s*,\s*\[([^\]]*)\]")  # also the included, and optional
_NAME: Final = re.compile(r"\w+")


def code_folders(server: Path, plugins: Iterable[str]) -> str:
    """Return the folders of all that a node with these plugins needs, as a term of Erlang.

    ``server`` is RabbitMQ's own script. What is installed elsewhere than its packages have it is
    left out.
    """
    applications = needed((*SERVER, *plugins), installed(server)).values()
    return f"{json.dumps([f'{each}/ebin' for each in applications], indent=1)}.\n"


def installed(server: Path) -> dict[str, Path]:
    """Return the folder of each application that comes with RabbitMQ, or Erlang, by its name."""
    folders = [server.resolve().parents[1] / "plugins"]
    if (erlang := shutil.which("erl")) is not None:
        folders.append(Path(erlang).resolve().parents[1] / "lib")
    return {file.stem: file.parents[1] for each in folders for file in each.glob("*/ebin/*.app")}


def needed(names: Iterable[str], among: Mapping[str, Path]) -> dict[str, Path]:
    """Return the applications with these names, and all that they need, by their names."""
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
