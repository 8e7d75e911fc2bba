"""promtool, which checks rules and queries as Prometheus reads them."""

from __future__ import annotations

import subprocess

TIMEOUT_SECONDS = 240  # on a busy machine


def run(*command: str) -> None:
    """Run a program; if it fails, fail with its output."""
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
