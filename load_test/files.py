"""Reading a table or an export, plain or gzipped, and writing figures as JSON."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any, Final

from grid.errors import ConfigurationError

_GZIP: Final = b"\x1f\x8b"


def text_of(path: Path) -> str:
    """Return the text of a file. Raise ``ConfigurationError`` if it cannot be read."""
    try:
        content = path.read_bytes()
        plain = gzip.decompress(content) if content.startswith(_GZIP) else content
        return plain.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigurationError(f"it cannot be read: {error}") from error


def check_folder(file: Path | None, option: str) -> None:
    """Raise ``ConfigurationError`` if the file that an option names has no folder to be in."""
    if file is not None and not file.parent.is_dir():
        raise ConfigurationError(f"there is no folder {file.parent} to write {option} to")


def write_json(file: Path | None, value: Any) -> None:  # noqa: ANN401 - JSON
    """Write a value as JSON, if a file is named."""
    if file is not None:
        file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
