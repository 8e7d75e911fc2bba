"""The messages of a job, in today's pattern and in others: without decisions or promises.

Every role of the chain runs in this process, on links of its own as in the services, so that the
contenders differ only in what is published, routed and read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Final
from urllib.parse import quote

from bench.codecs import COUNTS, DECISION
from bench.node import SUBSTATIONS, VirtualHost
from bench.processes import NotMeasured, cpu_seconds
from bench.queues import TRACE, Bound, Runs, up
from deploy.rabbitmq.users import substation_user
from grid import events, messages, provenance, topology
from grid.amqp import Consumer, Delivery, Outcome, Publisher, StreamReader
from grid.event_log import EventWriter
from grid.events import Event, State
from grid.messages import ChargeRequest

RATE, CLIENT, BROKER = "jobs/s", "client CPU ms a job", "RabbitMQ CPU ms a job"
EVENTS_A_JOB: Final = 4
PREFETCH: Final = 500
CHARGE_SECONDS: Final = 0.02
WARM_UP_JOBS: Final = 50
STALL_SECONDS: Final = 60.0
POLL_INTERVAL: Final = 0.005
COLLECT_SECONDS: Final = 0.02
GAP_SECONDS: Final = 0.05  # as the dispatcher's


@dataclass(frozen=True, slots=True)
class Pattern:
    """What is published for a job, and how often it is read.

    ``request_is_event`` and ``job_is_event``: a second binding delivers the message to the event
    log as well, and no event is published beside it. ``joined``: events of one turn of the loop are
    sent as one message. ``collected``: events of these kinds wait for ``COLLECT_SECONDS``, or for
    the next event of their writer. ``log`` is False if there are no events at all.
    """

    name: str
    request_is_event: bool = False
    job_is_event: bool = False
    joined: bool = True
    collected: frozenset[State] = frozenset()
    readers: int = 2
    log: bool = True

    @property
    def bindings(self) -> list[tuple[str, str]]:
        """Return the further bindings of the event log: exchange and routing key."""
        requests = [(topology.REQUESTS_EXCHANGE, topology.REQUESTS)]
        jobs = [(topology.SUBSTATIONS_EXCHANGE, each) for each in SUBSTATIONS]
        return requests * self.request_is_event + jobs * self.job_is_event


AT_ONCE: Final = Pattern("no event waits")
TODAY: Final = Pattern("charging collected for 20 ms", collected=frozenset({State.CHARGING}))


class Flow:
    """A chain of one pattern, with its ``links``; ``charge_seconds`` is the length of a session."""

    def __init__(self, vhost: VirtualHost, pattern: Pattern, charge_seconds: float) -> None:
        self._pattern = pattern
        self._charge_seconds = charge_seconds
        self._begun = self._completed = self._read = self._left = 0
        self._completed_at = 0.0
        self._refused: list[str] = []
        api, dispatcher = [vhost.url("api")], [vhost.url("dispatcher")]
        self._api = Publisher("pattern-api", api, _ignore)
        self._api_events = EventWriter(self._api, "pattern-api", provenance.API)
        self._dispatcher = Publisher("pattern-dispatcher", dispatcher, _ignore)
        self._decisions = EventWriter(self._dispatcher, "pattern-decision", provenance.DISPATCHER)
        self._requests = Consumer(
            "pattern-requests",
            dispatcher,
            _ignore,
            queue=topology.REQUESTS,
            prefetch=PREFETCH,
            gap_seconds=GAP_SECONDS,
        )
        self._turn = cycle(SUBSTATIONS)
        self._placed: list[_Placed] = []
        self._parts = 2 if pattern.log and not pattern.job_is_event else 1
        self._substations = [_Substation(each, vhost) for each in SUBSTATIONS]
        readers = [
            StreamReader(f"pattern-reader-{n}", urls, _ignore, queue=topology.EVENTS)
            for n, urls in enumerate((dispatcher, api)[: pattern.readers if pattern.log else 0])
        ]
        self.links: list[Runs] = [
            *(self._api, self._dispatcher),
            Bound(self._requests.up, partial(self._requests.run, deliver=self._on_request)),
            *(Bound(each.up, partial(each.run, read=self._on)) for each in readers),
            *(link for each in self._substations for link in each.links(self.job_began)),
        ]

    async def open_loop(self, rate: int, number: int) -> None:
        """Start so many jobs at a rate; return when all have ended, and were read."""
        began = time.monotonic()
        for each in range(number):
            await asyncio.sleep(max(0.0, began + each / rate - time.monotonic()))
            self._begin()
        await self._ended()

    async def closed_loop(self, number: int) -> float:
        """Start so many jobs, a new one for each that ends; return the jobs a second."""
        began = time.monotonic()
        first = min(number, PREFETCH)
        self._left = number - first
        for _ in range(first):
            self._begin()
        await self._ended()
        return number / (self._completed_at - began)

    async def _ended(self) -> None:
        events_a_job = EVENTS_A_JOB if self._pattern.log else 0
        deadline = time.monotonic() + STALL_SECONDS
        while (
            self._completed < self._begun
            or self._read < self._begun * events_a_job * self._pattern.readers
        ):
            if self._refused:
                raise NotMeasured(f"{self._pattern.name}: RabbitMQ {self._refused[0]}")
            if time.monotonic() > deadline:
                raise NotMeasured(
                    f"{self._pattern.name}: of {self._begun} jobs {self._completed} have ended, "
                    f"{self._read} events were read"
                )
            await asyncio.sleep(POLL_INTERVAL)

    def _begin(self) -> None:
        self._begun += 1
        request = ChargeRequest(
            f"{self._begun:032x}",
            time.time(),
            vehicle_id=f"EV-{self._begun}",
            requested_energy_kwh=40.5,
        )
        self._api.publish(
            topology.REQUESTS_EXCHANGE,
            topology.REQUESTS,
            request.encode(),
            partial(self._accepted, request),
            id=request.id,
            headers=TRACE,
        )

    def _accepted(self, request: ChargeRequest, outcome: Outcome) -> None:
        self._check(outcome)
        if self._pattern.log and not self._pattern.request_is_event:
            queued = Event(State.QUEUED, request.requested_at, request.id, detail=request.fields())
            self.write(self._api_events, queued)

    def write(
        self, writer: EventWriter, event: Event, done: Callable[[bool], None] | None = None
    ) -> None:
        """Write an event: alone, with the others of this turn of the loop, or a little later."""
        wait = COLLECT_SECONDS if event.kind in self._pattern.collected else 0.0
        writer.write(event, done, wait=wait)
        if not self._pattern.joined:
            writer.flush()

    def _on_request(self, delivery: Delivery) -> None:
        self._placed.append(_Placed(next(self._turn), delivery, self._parts))
        if len(self._placed) == 1:
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        """Publish what was decided in this turn: the events, then the jobs, as the service does."""
        placed, self._placed = self._placed, []
        bodies = [self._decided(each) for each in placed]
        self._decisions.flush()
        for each, body in zip(placed, bodies, strict=True):
            self._dispatcher.publish(
                topology.SUBSTATIONS_EXCHANGE,
                each.substation,
                body,
                partial(self._sent, each),
                id=each.delivery.id or "",
                headers=each.delivery.headers,
            )

    def _decided(self, job: _Placed) -> bytes:
        """Write the decision; return the job's body, which may carry it."""
        body = job.delivery.body
        request = messages.decode(body)
        event = Event(
            State.ASSIGNED, time.time(), request.id, job.substation, attempt=1, detail=DECISION
        )
        if self._pattern.job_is_event:
            return body + b"\n" + events.encode([event])
        if self._pattern.log:
            self.write(self._decisions, event, partial(self._recorded, job))
        return body

    def _recorded(self, job: _Placed, written: bool) -> None:  # noqa: FBT001
        self._check_written(written)
        job.part_done()

    def _sent(self, job: _Placed, outcome: Outcome) -> None:
        self._check(outcome)
        job.part_done()

    def job_began(self, substation: _Substation, delivery: Delivery) -> None:
        """Charge for the time of a session."""
        request = messages.decode(delivery.body.partition(b"\n")[0])
        if self._pattern.log:
            self.write(substation.events, substation.event(State.CHARGING, request.id))
        loop = asyncio.get_running_loop()
        loop.call_later(self._charge_seconds, self._job_ended, substation, delivery, request.id)

    def _job_ended(self, substation: _Substation, delivery: Delivery, job: str) -> None:
        done = partial(self._job_recorded, delivery)
        if self._pattern.log:
            self.write(substation.events, substation.event(State.COMPLETED, job), done)
        else:
            done(True)  # noqa: FBT003

    def _job_recorded(self, delivery: Delivery, written: bool) -> None:  # noqa: FBT001
        self._check_written(written)
        delivery.ack()
        self._completed += 1
        self._completed_at = time.monotonic()
        if self._left:
            self._left -= 1
            self._begin()

    def _check(self, outcome: Outcome) -> None:
        if outcome is not Outcome.CONFIRMED:
            self._refused.append(f"answered for a message: {outcome.value}")

    def _check_written(self, written: bool) -> None:  # noqa: FBT001
        if not written:
            self._refused.append("did not take an event")

    def _on(self, body: bytes, writer: str) -> None:
        """Read a message of the event log: events, or a request or job that is its own event."""
        if writer != provenance.NOBODY_KNOWN:
            self._read += len(events.decode(body))
            return
        request, _, decision = body.partition(b"\n")
        messages.decode(request)
        if decision:
            events.decode(decision)
        self._read += 1


@dataclass(slots=True)
class _Placed:
    """A request with its decision; it is acknowledged once so many messages are confirmed."""

    substation: str
    delivery: Delivery
    parts: int

    def part_done(self) -> None:
        self.parts -= 1
        if not self.parts:
            self.delivery.ack()


class _Substation:
    """The links of one substation."""

    def __init__(self, name: str, vhost: VirtualHost) -> None:
        self._name = name
        urls = [vhost.url(substation_user(name))]
        self.publisher = Publisher(f"pattern-{name}", urls, _ignore)
        writer = provenance.substation_writer(name)
        self.events = EventWriter(self.publisher, f"pattern-{name}", writer)
        self.consumer = Consumer(
            f"pattern-{name}-jobs",
            urls,
            _ignore,
            queue=topology.substation_queue(name).name,
            prefetch=PREFETCH,
        )

    def links(self, began: Callable[[_Substation, Delivery], None]) -> list[Runs]:
        run = partial(self.consumer.run, deliver=partial(began, self))
        return [self.publisher, Bound(self.consumer.up, run)]

    def event(self, kind: State, job: str) -> Event:
        return Event(kind, time.time(), job, self._name, attempt=1, counts=COUNTS)


@asynccontextmanager
async def flowing(
    vhost: VirtualHost, pattern: Pattern, charge_seconds: float = CHARGE_SECONDS
) -> AsyncIterator[Flow]:
    """Run a chain while the context lasts; its first jobs are over."""
    path = quote(vhost.name, safe="")
    for exchange, key in pattern.bindings:
        vhost.broker.request(
            "POST",
            f"/api/bindings/{path}/e/{exchange}/q/{topology.EVENTS}",
            {"routing_key": key},
        )
    flow = Flow(vhost, pattern, charge_seconds)
    async with up(*flow.links):
        await flow.closed_loop(WARM_UP_JOBS)
        yield flow


async def at_rate(vhost: VirtualHost, flow: Flow, rate: int, number: int) -> dict[str, float]:
    """Return what a job costs at a rate."""
    return await _cost(vhost, number, flow.open_loop(rate, number))


async def saturated(vhost: VirtualHost, flow: Flow, number: int) -> dict[str, float]:
    """Return what a job costs at full speed, and how fast that is."""
    return await _cost(vhost, number, flow.closed_loop(number))


async def _cost(vhost: VirtualHost, number: int, work: Awaitable[float | None]) -> dict[str, float]:
    own, broker = time.process_time(), cpu_seconds(vhost.broker.pid)
    rate = await work
    found = {
        BROKER: 1e3 * (cpu_seconds(vhost.broker.pid) - broker) / number,
        CLIENT: 1e3 * (time.process_time() - own) / number,
    }
    return found if rate is None else {RATE: rate, **found}


def _ignore(_name: str, _up: bool, _why: str) -> None:  # noqa: FBT001
    """Ignore a link that goes up and down."""
