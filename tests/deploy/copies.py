"""Copies of the project, for what is tried on the folder that it lies in."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from deploy import stack

PACKAGES: Final = ("grid", "scheduling", "api", "dispatcher", "substation", "load_test", "deploy")
COMPILED: Final = ".pyc"
HALF_WRITTEN: Final = "*.pyc.*"  # a compiled module that another process is writing
FILES: Final = ("Makefile", "pyproject.toml", "requirements-dev.lock")


def add_venv(project: Path) -> None:
    """Add a .venv like the one of the tests, which nothing has to be installed into."""
    venv = project / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "lib").symlink_to(Path(sys.prefix) / "lib")
    (venv / "pyvenv.cfg").write_bytes((Path(sys.prefix) / "pyvenv.cfg").read_bytes())
    digest = hashlib.sha256((project / "requirements-dev.lock").read_bytes()).hexdigest()
    (venv / "installed").write_text(f"{digest}  requirements-dev.lock\n")


def copy_project(folder: Path) -> Path:
    """Copy what `make up` needs into a folder that is not there yet; return it.

    With the modules as Python has compiled them: each program would otherwise compile them again,
    which takes longer than to run it. Python compares the time and size of a module's source.
    """
    ignored = shutil.ignore_patterns(HALF_WRITTEN)
    for package in PACKAGES:
        shutil.copytree(stack.ROOT / package, folder / package, ignore=ignored, copy_function=_copy)
    for file in FILES:
        shutil.copy2(stack.ROOT / file, folder / file)
    return folder


def _copy(source: str, target: str) -> None:
    """Copy a file; link a compiled module: Python never writes into one, it replaces the file."""
    if source.endswith(COMPILED):
        with suppress(OSError):  # on another disk
            os.link(source, target)
            return
    shutil.copy2(source, target)
