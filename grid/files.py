"""Reading a file that a variable names."""

from __future__ import annotations

from pathlib import Path

from grid.errors import ConfigurationError


def text_of(variable: str, path: Path) -> str:
    """Give the text of the file; raises ``ConfigurationError`` naming both where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError(f"{variable}={path}: cannot be read: {why}") from error
