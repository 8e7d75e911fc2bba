"""From where a dispatcher reads the event log when it starts: as little as is enough.

What it must know before it decides is which requests another dispatcher had sent, without RabbitMQ
having its acknowledgement: these are delivered again. Whoever is at work says in its snapshots from
which offset on all its decisions stand that may be of that kind (``dispatcher.unsettled``). All
decisions made after a snapshot stand behind it; so it is enough to read from the offset that the
newest one names.
"""

from __future__ import annotations

from math import inf
from typing import Final

from grid import event_log, topology
from grid.amqp import StreamScanner
from grid.errors import MalformedMessage
from grid.events import SUBSTATIONS
from grid.kinds import Snapshot

WINDOWS: Final = (2_000, 20_000, 200_000, inf)  # messages looked through for a snapshot
# What an api sends again after its link broke may be a second copy of what was sent just before.
RECENT: Final = "5s"
_SNAPSHOT: Final = f'"kind":"{SUBSTATIONS}"'.encode()


async def find_start(scanner: StreamScanner) -> str | int:
    """Return the offset from which the event log is to be read; ``first`` for all of it.

    Raise ``BrokerUnavailable`` where RabbitMQ cannot be asked.
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
    """What the snapshots in a part of the log say: the newest of each dispatcher counts."""

    def __init__(self) -> None:
        self._by_dispatcher: dict[str, int] = {}

    @property
    def lowest(self) -> int | None:
        """Return the offset from which all decisions in question stand; None without a snapshot."""
        return min(self._by_dispatcher.values(), default=None)

    def see(self, _offset: int, body: bytes, writer: str) -> None:
        """Record what a message of the log says; most are no snapshots, and are not decoded."""
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
