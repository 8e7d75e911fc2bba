"""Reads the part of the event log from before a dispatcher began to follow it."""

from __future__ import annotations

import logging
from contextlib import suppress

from dispatcher.open_jobs import OpenJobs
from grid import event_log, topology
from grid.amqp import StreamScanner
from grid.errors import MalformedMessage

log = logging.getLogger(__name__)


async def read_past(scanner: StreamScanner, end: int) -> OpenJobs:
    """Return the jobs that were open where the event log reached the offset ``end``.

    Raise ``BrokerUnavailable``.
    """
    found = OpenJobs(complete=True)

    def see(offset: int, body: bytes, writer: str) -> None:
        with suppress(MalformedMessage):  # such messages are logged where new ones are read
            for event in event_log.read(body, writer):
                found.take(event, offset)

    if end > 0:
        await scanner.scan(topology.EVENTS, "first", end, see)
    return found
