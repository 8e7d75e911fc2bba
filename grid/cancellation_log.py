"""Reading and writing ``charge.cancellations``, the stream of what clients have cancelled."""

from __future__ import annotations

import logging
from collections.abc import Callable

from grid import cancellations, topology
from grid.amqp import Publisher
from grid.cancellations import Cancellation
from grid.errors import MalformedMessage
from grid.isolation import Isolation

log = logging.getLogger(__name__)


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
