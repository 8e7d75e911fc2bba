"""A line now and then: where there is no terminal."""

from __future__ import annotations

from typing import Final, TextIO

from grid.events import State
from load_test.view.progress import Progress

INTERVAL_SECONDS: Final = 10.0


class PlainLines:
    """A view that writes a line to ``err`` every ``interval`` seconds at most."""

    def __init__(self, err: TextIO, interval: float = INTERVAL_SECONDS) -> None:
        self.interval = interval
        self._err = err

    def show(self, progress: Progress) -> None:
        """Write a line."""
        self._err.write(f"{line(progress)}\n")
        self._err.flush()

    def write(self, lines: str, out: TextIO) -> None:
        """Write lines to the output."""
        out.write(lines)

    def close(self) -> None:
        """Do nothing: lines stay."""


def line(progress: Progress) -> str:
    """Return how far a run is, as one line."""
    parts = [f"sent {progress.answered}/{progress.requests}"]
    if progress.refused:
        parts.append(f"refused {progress.refused}")
    if states := progress.states:
        waiting, charging = states.get(State.QUEUED, 0), states.get(State.CHARGING, 0)
        ended = f"ended {progress.ended}/{progress.accepted}"
        parts += [f"waiting {waiting}", f"charging {charging}", ended]
    return f"{progress.seconds:7.1f} s  {', '.join(parts)}"
