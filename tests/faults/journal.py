"""Reading the event log all the while, past everything that happens to it."""

from __future__ import annotations

from time import monotonic

from grid import events, topology
from grid.amqp import StreamReader
from tests.faults.accounts import Histories


class Journal:
    """What the event log has said so far, read over a link of its own to the broker."""

    def __init__(self, urls: list[str]) -> None:
        self.histories = Histories()
        self._link = StreamReader(
            "journal",
            urls,
            lambda *_: None,
            queue=topology.EVENTS,
        )

    async def run(self) -> None:
        """Read until cancelled."""
        await self._link.run(read=self._read)

    def _read(self, body: bytes, _writer: str) -> None:
        now = monotonic()
        for event in events.decode(body):
            self.histories.take(event, now)
