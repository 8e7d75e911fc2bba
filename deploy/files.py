"""Writing files that hold something private."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file, by default for its owner alone, without ever showing half of it."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.chmod(mode)
    draft.replace(path)


def digest(paths: Iterable[Path]) -> str:
    """Give what tells whether one of these files has changed; one that is not there is empty."""
    found = (path.read_bytes() for path in paths if path.exists())
    return hashlib.sha256(b"".join(found)).hexdigest()


def own_folder(path: Path) -> Path:
    """Make a folder, where it is not there yet, that only its owner can enter; gives it back."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
