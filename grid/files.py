"""Reading files that a variable names, which may be of any type."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG
from typing import Final

from grid.errors import ConfigurationError

MAX_BYTES: Final = 1024 * 1024  # of a file with settings
# a FIFO without a writer would block, a terminal would become the controlling terminal
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def content_of(path: Path, most: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file, or one that a link leads to, of at most ``most`` bytes.

    Raises:
        OSError: there is none, it cannot be read, it is something else, or too long.
    """
    _check_regular(path.stat().st_mode)  # opening a device may have effects
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        _check_regular(os.fstat(file.fileno()).st_mode)
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(0, f"is longer than {most} bytes")
    return content


def text_of(variable: str, path: Path) -> str:
    """Return the text of the file that a variable names.

    Only for the start of a process: it also reads what is no regular file, since shells pass a
    secret through a pipe.

    Raises:
        ConfigurationError: there is none, or it is no text; the error names file and variable.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError(f"{variable}={path}: cannot be read: {why}") from error
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"{variable}={path}: is longer than {MAX_BYTES} bytes")
    return text


def _check_regular(mode: int) -> None:
    if not S_ISREG(mode):
        raise OSError(0, "is no regular file: give a file, or a link to one")
