"""Reading and writing ``charge.cancellations``, the stream of what clients have cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from grid import cancellations, topology
from grid.amqp import Publisher, StreamReader
from grid.cancellations import Cancellation
from grid.errors import MalformedMessage
from grid.isolation import Isolation
from grid.waiting import within

log = logging.getLogger(__name__)

QUIET_SECONDS: Final = 0.25  # without a message: the stream is read to its end
READ_SECONDS: Final = 10.0  # after which jobs are taken all the same


def reading(
    on_cancellation: Callable[[Cancellation], None], isolation: Isolation
) -> Callable[[bytes, str], None]:
    """Return a reader of the stream's messages, which skips those that are no cancellation."""

    def read(body: bytes, _writer: str) -> None:
        try:
            found = cancellations.decode(body)
        except MalformedMessage as error:
            log.warning("skipped a message of %s: %s", topology.CANCELLATIONS, error)
            return
        on_cancellation(found)

    return isolation.reading("a cancellation", read)


async def write(publisher: Publisher, cancellation: Cancellation, timeout: float) -> None:
    """Write a cancellation; raise ``BrokerUnavailable`` if it is not confirmed in time."""
    await publisher.confirmed(
        topology.CANCELLATIONS_EXCHANGE,
        topology.CANCELLATIONS,
        cancellations.encode(cancellation),
        id=f"cancel-{cancellation.job}",
        timeout=timeout,
    )


async def read_to_end(reader: StreamReader) -> None:
    """Wait until what was cancelled before is read, so that none of it is charged.

    RabbitMQ does not say where a stream ends, and a substation may not write a mark into it. If the
    stream cannot be read, a job is cancelled as soon as it can.
    """
    if not await within(READ_SECONDS, _quiet(reader)):
        log.warning(
            "%s cannot be read yet: a job that its client has cancelled may be charged meanwhile",
            topology.CANCELLATIONS,
        )


async def _quiet(reader: StreamReader) -> None:
    await reader.up.wait()
    before = -1
    while before != reader.position:
        before = reader.position
        await asyncio.sleep(QUIET_SECONDS)
