"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

KILOBYTES_A_GIGABYTE: Final = 1e6
LIBRARIES: Final = ("pika", "aio-pika", "fastapi", "uvicorn")


def described(rabbitmq: str, command: str) -> str:
    """Return the machine, the versions and the command as Markdown."""
    memory = _field(Path("/proc/meminfo"), "MemTotal").split()[0]
    load = os.getloadavg()[0]
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    processors = len(os.sched_getaffinity(0))
    lines = (
        f"Command: `{command}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"Machine: {_field(Path('/proc/cpuinfo'), 'model name')}, {processors} processors, "
        f"{int(memory) / KILOBYTES_A_GIGABYTE:.0f} GB, {platform.system()} {platform.release()}; "
        "everything runs on it, RabbitMQ and the clients too; "
        f"load average {load:.1f} at the start",
        f"Python {platform.python_version()}, RabbitMQ {rabbitmq}, {versions}",
    )
    return "".join(f"- {each}\n" for each in lines)


def _field(file: Path, name: str) -> str:
    """Return the value of the first line ``name: value`` of a kernel file."""
    for line in file.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
