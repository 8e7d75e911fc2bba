"""Paths as the programs see them: from their working folder, whatever the folders above are named.

RabbitMQ's configuration must be Latin-1, Prometheus takes a file's name for a pattern, a socket's
path has 107 bytes at most, and the supervisor's configuration has no escapes. So none of them gets
the name of a folder that a user chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy import stack

WORKING_FOLDER: Final = Path("/proc/self/cwd")


def from_inside(path: Path) -> Path:
    """Return the path by which a program finds a file of the project, which is its working folder.

    A file outside of the project keeps its path.
    """
    if not path.is_relative_to(stack.ROOT):
        return path
    return WORKING_FOLDER / path.relative_to(stack.ROOT)


def command(words: Sequence[str]) -> list[str]:
    """Return a command whose program and files are found from the working folder."""
    program = Path(words[0])
    if program.is_relative_to(stack.ROOT):
        program = program.relative_to(stack.ROOT)
    return [str(program), *map(_argument, words[1:])]


def _argument(word: str) -> str:
    return str(from_inside(Path(word))) if word.startswith("/") else word
