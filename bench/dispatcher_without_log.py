"""The dispatcher without its decisions in the event log, only to see what those cost.

``python -m bench.dispatcher_without_log``, with the variables of ``python -m dispatcher``. Its
marks and its snapshots of the substations are still written, since it waits to read them.
"""

from __future__ import annotations

import asyncio

import dispatcher.app
from dispatcher.__main__ import service
from grid.event_log import Done, EventWriter
from grid.events import Event, State
from grid.runtime import run


class _Silent(EventWriter):
    """An event writer that confirms each decision without writing it."""

    def write(self, event: Event, done: Done | None = None, *, wait: float = 0.0) -> None:
        if event.kind != State.ASSIGNED:
            super().write(event, done, wait=wait)
        elif done is not None:
            asyncio.get_running_loop().call_soon(done, True)  # noqa: FBT003


if __name__ == "__main__":
    dispatcher.app.EventWriter = _Silent  # type: ignore[attr-defined]
    run(service)
