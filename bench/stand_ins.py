"""Substations that have room for everything, as the dispatcher and RabbitMQ see them.

Each charges in no time: whatever has arrived in its queue counts as accepted and completed. Its
metrics page and an occasional event report that, as the counters of a real one would. The jobs stay
in the queue, where RabbitMQ counts them: that is how the relay is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from bench.node import SUBSTATIONS
from bench.queues import up
from deploy.local.ports import HOST, free_ports
from grid import events, provenance, topology
from grid.amqp import Consumer, Declarer, Delivery, Outcome, Publisher
from grid.events import Counts, Event, State

STARTED_AT: Final = 1_790_000_000.0
PAGE: Final = """\
ev_charging_info{{substation="{name}"}} 1.0
ev_charging_load 0.0
ev_charging_connectors 1e+06
ev_charging_power_kw 0.0
ev_charging_rated_power_kw 1e+09
ev_charging_background_power_kw 0.0
ev_charging_waiting 0.0
ev_charging_sessions_accepted_total {arrived}
ev_charging_sessions_completed_total {arrived}
ev_charging_expired_deliveries_total 0.0
ev_charging_duplicate_deliveries_total 0.0
process_start_time_seconds {started_at}
"""


class StandIn:
    """One such substation."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.queue = topology.substation_queue(name)
        self.arrived = 0
        self._held = 0
        # keeps its first message: nothing is sent to a queue without a consumer
        self._consumer = Consumer(
            f"bench-{name}", [url], _ignore, queue=self.queue.name, prefetch=1
        )

    def page(self) -> bytes:
        """Return its metrics page, as an answer over HTTP."""
        body = PAGE.format(
            name=self.name, arrived=float(self.arrived), started_at=STARTED_AT
        ).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def event(self) -> bytes:
        """Return an event with its counters."""
        counts = Counts(0, self.arrived, self.arrived, 0, STARTED_AT, 0.0)
        job = f"of-{self.name}"
        event = Event(State.COMPLETED, time.time(), job, self.name, attempt=1, counts=counts)
        return events.encode([event])

    def update(self, ready: int) -> bool:
        """Record how many jobs are ready in its queue; return whether more have arrived."""
        before, self.arrived = self.arrived, ready + self._held
        return self.arrived > before

    @property
    def up(self) -> asyncio.Event:
        """Return an event that is set while it is connected."""
        return self._consumer.up

    async def run(self) -> None:
        """Consume until the task is cancelled."""
        await self._consumer.run(deliver=self._hold)

    def _hold(self, _: Delivery) -> None:
        self._held += 1


class StandIns:
    """Every substation; ``ports`` are those of their metrics pages."""

    def __init__(self, url: str) -> None:
        self.ports = free_ports(len(SUBSTATIONS))
        self._each = [StandIn(name, url) for name in SUBSTATIONS]
        self._declarer = Declarer("bench-stand-ins", [url], _ignore)
        self._publisher = Publisher("bench-events", [url], _ignore)

    async def arrived(self) -> int:
        """Return how many jobs have arrived, and write events that report it."""
        for each in self._each:
            state = await self._declarer.queue(each.queue)
            if each.update(state.ready):
                self._publisher.publish(
                    topology.EVENTS_EXCHANGE,
                    provenance.substation_writer(each.name),
                    each.event(),
                    _written,
                    id=f"{each.name}-{each.arrived}",
                )
        return sum(each.arrived for each in self._each)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve the pages, and be connected, while the context lasts."""
        loop = asyncio.get_running_loop()
        servers: Sequence[asyncio.Server] = [
            await loop.create_server(lambda each=each: _Page(each), HOST, port)  # type: ignore[misc]
            for each, port in zip(self._each, self.ports, strict=True)
        ]
        try:
            async with up(self._declarer, self._publisher, *self._each):
                yield
        finally:
            for server in servers:
                server.close()


class _Page(asyncio.Protocol):
    """A protocol that answers every request with the page."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *asked, self._asked = (self._asked + data).split(b"\r\n\r\n")
        self._transport.write(self._stand_in.page() * len(asked))


def _written(_: Outcome) -> None:
    """Do nothing: the next event has the same counters, or newer ones."""


def _ignore(_name: str, _up: bool, _why: str) -> None:  # noqa: FBT001
    """Ignore a link that goes up and down."""
