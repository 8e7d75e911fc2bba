"""Copies of the project, for what is tried on the folder that it lies in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from deploy import stack

PACKAGES: Final = ("grid", "scheduling", "api", "dispatcher", "substation", "load_test", "deploy")
FILES: Final = ("Makefile", "requirements-dev.lock")


def copy_project(folder: Path) -> Path:
    """Copy what `make up` needs into a folder that is not there yet; return it."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(stack.ROOT / package, folder / package, ignore=ignored)
    for file in FILES:
        shutil.copy2(stack.ROOT / file, folder / file)
    return folder
