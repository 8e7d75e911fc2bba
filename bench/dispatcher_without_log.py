"""The dispatcher, whose decisions do not go to the event log: only to see what that costs.

``python -m bench.dispatcher_without_log``, with the variables of ``python -m dispatcher``. Its
marks and what it says of the substations are still written, since it waits for reading them.
"""

from __future__ import annotations

import asyncio

import dispatcher.service
from dispatcher.__main__ import service
from grid.event_log import Done, EventWriter
from grid.events import Event, State
from grid.runtime import run


class _Silent(EventWriter):
    """Confirms each decision without writing it."""

    def write(self, event: Event, done: Done | None = None) -> None:
        if event.kind != State.ASSIGNED:
            super().write(event, done)
        elif done is not None:
            asyncio.get_running_loop().call_soon(done, True)  # noqa: FBT003


if __name__ == "__main__":
    dispatcher.service.EventWriter = _Silent  # type: ignore[attr-defined]
    run(service)
