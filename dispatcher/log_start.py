"""The offset from which a dispatcher reads the event log when it starts.

Before it decides, it must know which requests another dispatcher sent whose acknowledgements did
not reach RabbitMQ: these are redelivered. The snapshots of an active dispatcher name an offset
after which the log has all such decisions (``dispatcher.unsettled``). Decisions made later come
after the snapshot. So it is enough to read from the offset in the newest snapshot.
"""

from __future__ import annotations

from math import inf
from typing import Final

from grid import event_log, topology
from grid.amqp import StreamScanner
from grid.errors import MalformedMessage
from grid.events import SUBSTATIONS
from grid.kinds import Snapshot

WINDOWS: Final = (2_000, 20_000, 200_000, inf)  # messages searched for a snapshot
# What an api publishes again after its link broke may be a second copy of a recent request.
RECENT: Final = "5s"
_SNAPSHOT: Final = f'"kind":"{SUBSTATIONS}"'.encode()


async def find_start(scanner: StreamScanner) -> str | int:
    """Return the offset from which the event log is to be read; ``first`` for all of it.

    Raise ``BrokerUnavailable`` if the log cannot be read.
    """
    last = await scanner.first(topology.EVENTS, "last")
    if last is None:
        return "first"
    recent = await scanner.first(topology.EVENTS, RECENT)
    for window in WINDOWS:
        begin = int(max(0.0, last - window))
        seen = Floors()
        await scanner.scan(topology.EVENTS, begin, last + 1, seen.see)
        if seen.lowest is not None:
            return min(seen.lowest, last, last if recent is None else recent)
        if begin == 0:
            break
    return "first"


class Floors:
    """The offsets in the newest snapshot of each dispatcher, in a part of the log."""

    def __init__(self) -> None:
        self._by_dispatcher: dict[str, int] = {}

    @property
    def lowest(self) -> int | None:
        """Return the lowest of these offsets; None without a snapshot."""
        return min(self._by_dispatcher.values(), default=None)

    def see(self, _offset: int, body: bytes, writer: str) -> None:
        """Record the snapshots in a message; most messages have none, and are not decoded."""
        if _SNAPSHOT not in body:
            return
        try:
            found = event_log.read(body, writer)
        except MalformedMessage:
            return
        for each in found:
            if each.kind != SUBSTATIONS:
                continue
            snapshot = Snapshot(each.detail)
            if (floor := snapshot.unsettled_from) is not None:
                self._by_dispatcher[snapshot.dispatcher or ""] = floor
