"""Reading a table or an export, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Final

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
