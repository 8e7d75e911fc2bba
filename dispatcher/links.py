"""The links of a dispatcher to RabbitMQ. Each may break without the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grid import topology
from grid.amqp import (
    Consumer,
    Declarer,
    Link,
    Publisher,
    StreamReader,
    StreamScanner,
    Taker,
    Watch,
    boot_time,
)

DEAD_PREFETCH: Final = 50
GAP_SECONDS: Final = 0.01  # how long an acknowledgement of a request waits for those before it


@dataclass(frozen=True, slots=True)
class Links:
    """The links of a dispatcher, one for each thing that it reads or writes.

    ``controls_out`` writes marks into the controls: at a broker without that stream it breaks again
    and again, and must not break the publishing of jobs. The same holds for ``again``, which
    publishes missing requests: a queue without a leader may break it.
    """

    jobs: Publisher
    queues: Declarer
    dead: Consumer
    reclaimed: Taker
    scanner: StreamScanner
    controls_out: Publisher
    controls: StreamReader
    cancellations: StreamReader
    again: Publisher
    log: StreamReader
    requests: Consumer

    @property
    def all(self) -> list[Link]:
        """Return all of them."""
        return [
            self.jobs,
            self.queues,
            self.dead,
            self.reclaimed,
            self.scanner,
            self.controls_out,
            self.controls,
            self.cancellations,
            self.again,
            self.log,
            self.requests,
        ]

    @property
    def no_lease_lapsed(self) -> bool:
        """Return whether RabbitMQ confirmed a moment ago that its deliveries are still ours.

        A link that is down counts as confirmed: its deliveries are void.
        """
        now = boot_time()
        return not (self.requests.lapsed_at(now) or self.reclaimed.lapsed_at(now))


def make_links(urls: Sequence[str], watch: Watch, prefetch: int) -> Links:
    """Return the links, none of which runs yet; ``prefetch`` is that of the requests."""
    return Links(
        jobs=Publisher("dispatcher-jobs", urls, watch),
        queues=Declarer("dispatcher-queues", urls, watch),
        dead=Consumer("dispatcher-dead", urls, watch, queue=topology.DEAD, prefetch=DEAD_PREFETCH),
        reclaimed=Taker("dispatcher-rescue", urls, watch, leased=True),
        scanner=StreamScanner("dispatcher-log", urls, watch),
        controls_out=Publisher("dispatcher-controls-out", urls, watch),
        controls=StreamReader("dispatcher-controls", urls, watch, queue=topology.CONTROLS),
        cancellations=StreamReader(
            "dispatcher-cancellations", urls, watch, queue=topology.CANCELLATIONS
        ),
        again=Publisher("dispatcher-again", urls, watch),
        log=StreamReader("dispatcher-events", urls, watch, queue=topology.EVENTS),
        requests=Consumer(
            "dispatcher-requests",
            urls,
            watch,
            queue=topology.REQUESTS,
            prefetch=prefetch,
            leased=True,
            gap_seconds=GAP_SECONDS,
        ),
    )
