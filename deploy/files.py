"""Private files: writing them, and reading them back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from grid.errors import ConfigurationError


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file, by default readable by its owner alone, and replace the old one at once."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.chmod(mode)
    draft.replace(path)


def read(path: Path) -> str:
    """Return the text of a file that `make up` wrote.

    Raises:
        ConfigurationError: it cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(unreadable(path, error)) from error


def unreadable(path: Path, error: OSError | UnicodeDecodeError) -> str:
    """Return a sentence that says which file cannot be read, and why."""
    why = error.strerror if isinstance(error, OSError) else "not UTF-8"
    return f"{path} cannot be read: {why}"


def digest(paths: Iterable[Path]) -> str:
    """Return a hash that changes when one of these files does; a missing file counts as empty.

    Raises:
        ConfigurationError: one of them cannot be read.
    """
    return hashlib.sha256(b"".join(map(_content, paths))).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigurationError(unreadable(path, error)) from error


def own_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter, if it does not exist yet; return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
