"""The version of the project, which ``pyproject.toml`` names and nothing else."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).parents[1] / "pyproject.toml"


@cache
def version() -> str:
    """Return the version, such as ``1.2.0``."""
    with FILE.open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
