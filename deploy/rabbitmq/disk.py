"""The free disk below which RabbitMQ blocks publishers, and a message if there is less."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

FREE_LIMIT: Final = 512_000_000  # bytes: ``disk_free_limit.absolute`` of common.conf
ADVICE: Final = "free some disk (docs/reliability.md, A full disk under RabbitMQ)"


def shortage(folder: Path) -> str | None:
    """Return a sentence if a folder that exists has too little free disk, None if it has enough."""
    free = shutil.disk_usage(folder).free
    return None if free >= FREE_LIMIT else said(str(folder), free, FREE_LIMIT)


def said(where: str, free: float, limit: float) -> str:
    """Return the sentence about so many bytes of free disk."""
    return (
        f"{where} has {free / 1e6:.0f} MB of disk free: RabbitMQ takes no messages while it is "
        f"less than {limit / 1e6:.0f} MB, so nothing gets ready; {ADVICE}"
    )
