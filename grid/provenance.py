"""Who wrote an event, and whose events are believed. Pure.

A message of the event log carries the key it was published with, and RabbitMQ lets each user
publish with its own name as the key only (``deploy/rabbitmq/users.py``). So a reader knows the
writer of an event, whatever the event says of itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from grid import topology
from grid.events import BOOKED, MARKER, REQUEUED, SUBSTATIONS, Event, State

DISPATCHER: Final = "dispatcher"
API: Final = "api"
OPERATOR: Final = "parked"  # the tool that replays and discards parked messages

# Published through another exchange: one of an earlier version, to which no user may write now.
NOBODY_KNOWN: Final = ""

_SUBSTATION_KINDS: Final = frozenset(
    {State.CHARGING, State.COMPLETED, State.EXPIRED, State.CANCELLED}
)
_KINDS: Final[Mapping[str, frozenset[str]]] = {
    DISPATCHER: frozenset({*State, SUBSTATIONS, REQUEUED, BOOKED, MARKER}),
    API: frozenset({State.QUEUED, State.CANCELLED, MARKER}),
    OPERATOR: frozenset({State.QUEUED, State.CANCELLED}),
    # From an earlier version: its jobs are read, but what it says of substations no longer holds.
    NOBODY_KNOWN: frozenset({*State, MARKER}),
}
_NONE: Final[frozenset[str]] = frozenset()


def substation_writer(substation: str) -> str:
    """Return the name with which a substation writes events: that of its queue and its user."""
    return topology.substation_queue(substation).name


def writer_of(exchange: str, key: str) -> str:
    """Return who published a message of the event log, by its exchange and key."""
    return key if exchange == topology.EVENTS_EXCHANGE else NOBODY_KNOWN


def believed(events: list[Event], writer: str) -> list[Event]:
    """Return those of the events that their writer may write, in their order.

    A substation may write of sessions at itself, without a detail: that could claim a replay.
    """
    if writer == DISPATCHER:
        return events
    substation = topology.substation_of(writer)
    if substation is not None:
        return [
            replace(each, detail={}) if each.detail else each
            for each in events
            if each.substation == substation and each.kind in _SUBSTATION_KINDS
        ]
    kinds = _KINDS.get(writer, _NONE)
    return [each for each in events if each.kind in kinds]
