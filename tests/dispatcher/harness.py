"""A dispatcher between a queue, a publisher, substations and a reclaimer, all scripted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from dispatcher.choices import policy as find_policy
from dispatcher.commands import LookAtQueue, ReadLog, Requeue
from dispatcher.core import Core
from dispatcher.failure_detector import DEAD_LOOKS, FailureDetector
from dispatcher.inputs import (
    Begin,
    JobReclaimed,
    LogRead,
    Moment,
    OlderEventsRead,
    QueueObserved,
    ReclaimDue,
    Route,
)
from dispatcher.jobs import JobsInHand
from dispatcher.links import Links
from dispatcher.log_reader import OWN_EVENTS, LogReader
from dispatcher.metrics import LoadCollector, Metrics
from dispatcher.open_jobs import OpenJobs
from dispatcher.reclaim import INTERVAL_SECONDS
from dispatcher.shell import Shell
from dispatcher.standby import Standby
from dispatcher.watch import SubstationWatch
from grid import events, provenance, topology
from grid.amqp import Delivery, Outcome, QueueState
from grid.amqp.acknowledger import Acknowledger
from grid.event_log import EventWriter
from grid.events import MARKER, Counts, Event
from grid.isolation import Isolation
from grid.messages import ChargeRequest
from grid.trace import Span
from scheduling import policies
from scheduling.candidates import CandidateTable
from scheduling.load_tracker import LoadTracker
from scheduling.order import DeadlineOrder
from scheduling.readings import Reading
from scheduling.rules import Rules
from tests.fake_broker import FakeConsumer, FakePublisher, Settled, soon, turns

SUBSTATIONS = topology.SUBSTATIONS_EXCHANGE
AT = 1_000.0
PREFETCH = 20
RESCUE_AFTER = 10.0


def body(id: str, *eligible: str, **fields: Any) -> bytes:  # noqa: ANN401
    """Return a request's bytes."""
    return ChargeRequest(id, AT - 1, eligible_substations=eligible, **fields).encode()


def confirming() -> FakePublisher:
    """Make a publisher whose broker confirms everything at once."""
    return FakePublisher(
        charge_substations=Outcome.CONFIRMED,
        charge_events=Outcome.CONFIRMED,
        charge_parked=Outcome.CONFIRMED,
        charge_requests=Outcome.CONFIRMED,
    )


class FakeReclaimer:
    """A scripted reclaimer: hands over jobs, and records how their deliveries are settled."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._acknowledger = Acknowledger(1, self._on_frame, soon)
        self._tag = 0
        self.outstanding: dict[int, tuple[str, Delivery]] = {}
        self.acked: list[int] = []
        self.rejected: list[int] = []
        self.requeued: list[tuple[str, str]] = []  # substation and job

    def deliver(
        self,
        substation: str,
        body: bytes,
        id: str | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> bool:
        """Hand over a job from a substation's queue; return whether the dispatcher accepted it."""
        self._tag += 1
        queue = topology.substation_queue(substation).name
        self._acknowledger.delivered(self._tag)
        delivery = Delivery(
            self._acknowledger, self._tag, body, queue=queue, id=id, headers=headers or {}
        )
        self.outstanding[self._tag] = substation, delivery
        commands = self._shell.feed(JobReclaimed(substation, delivery))
        return not any(isinstance(each, Requeue) for each in commands)

    def break_link(self) -> list[tuple[str, Delivery]]:
        """Lose the channel; return the jobs that RabbitMQ has again, each with its substation."""
        lost, self.outstanding = list(self.outstanding.values()), {}
        self._acknowledger.end()
        self._acknowledger = Acknowledger(1, self._on_frame, soon)
        self._shell.on_reclaimed_lost()
        return lost

    def _on_frame(self, frame: bytes) -> None:
        settled = Settled.by(frame, self.outstanding)
        for tag in settled.tags:
            substation, delivery = self.outstanding.pop(tag)
            if settled.how == "requeue":
                self.requeued.append((substation, str(delivery.id)))
            if settled.how == "ack":
                self.acked.append(tag)
            elif settled.how == "reject":
                self.rejected.append(tag)


async def always(_: str) -> QueueState | None:
    """Return the state of a queue whose jobs are taken."""
    return QueueState(ready=0, consumers=1)


class ShellWithLogRead(Shell):
    """A shell whose event log is always read."""

    def _read_log(self, command: ReadLog) -> None:
        self.feed(LogRead(command.older))


class Harness:
    """A dispatcher whose two clocks are scripted: ``at`` on the wall, ``now`` of the tracker.

    Each page that is read advances the tracker's clock by a second. ``begun`` says whether it has
    begun to decide, ``certain`` whether it surely still owns its deliveries.
    """

    def __init__(
        self,
        publisher: FakePublisher,
        *names: str,
        connectors: float = 10,
        policy: str = policies.DEFAULT,
        begun: bool = True,
        reads_log: bool = False,
    ) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.publisher = publisher
        self.spans: list[Span] = []
        self.at, self.now = AT, 0.0
        self.tracker = LoadTracker(stale_after=1e9, default_connectors=connectors)
        self.table = CandidateTable(self.tracker, period=0.5, slow_start=0.0)
        self.missing: list[str] = []
        self.certain, self.position = True, 0
        self.writer = EventWriter(publisher, "test", provenance.DISPATCHER, remembered=OWN_EVENTS)
        self.queue = FakeConsumer(topology.REQUESTS)
        self.standby = Standby("this")
        self.standby.on_delivery()  # it is active already
        self.core = Core(
            self.table,
            Rules(DeadlineOrder(), find_policy(policy)),
            self.standby,
            self.metrics,
            FailureDetector(RESCUE_AFTER),
            random=Random(1),  # noqa: S311
            prefetch=PREFETCH,
        )
        self.index, self.open_jobs = self.core.index, self.core.open_jobs
        self._record_missing_queues()
        isolation = Isolation(self.registry)
        self.shell = (Shell if reads_log else ShellWithLogRead)(
            self.core,
            publisher,
            self.writer,
            requests=self.queue,
            metrics=self.metrics,
            isolation=isolation,
            moment=lambda: Moment(self.now, self.at, self.position, self.certain),
            scrape=lambda _: None,
            record=self.spans.append,
        )
        self.queue.begin(self.shell.on_request, self.shell.on_requests_lost)
        links = cast(Links, SimpleNamespace(requests=self.queue, log=self))
        self.log_reader = LogReader(
            self.shell, links, self.writer, clock=lambda: self.at, now=lambda: self.now
        )
        self.reclaim = FakeReclaimer(self.shell)
        self.watch = SubstationWatch(self.shell, self.metrics, isolation)
        self.registry.register(
            LoadCollector(
                lambda: self.core.candidates(self.now),
                lambda: self.core.waiting_for_capacity,
                lambda: self.table.blind(self.now),
                takeovers=lambda: self.core.standby.terms,
                promised=lambda: len(self.open_jobs.booked),
            )
        )
        self.session_seconds = 3.5  # on average, by each page
        self._rated: dict[str, float] = {}
        self.tracker.keep(dict.fromkeys(names))
        for name in names:
            self.arrive(name)
        if begun:
            self.begin()

    def arrive(self, name: str, rated_power_kw: float | None = None) -> None:
        """Make a substation fully known: its page is read, and its queue is empty."""
        if rated_power_kw is not None:
            self._rated[name] = rated_power_kw
        self.read(name)
        self.tracker.ask_depth(name)
        self.tracker.depth(name, 0, self.now)
        self.read(name)

    def read(self, name: str, load: float = 0) -> None:
        """Read a page of a substation that accepted all it was sent, and has ``load`` sessions."""
        self.now += 1
        state = self.tracker.substations[name]
        before = state.counts or Counts(0, 0, 0, 0, 1.0)
        accepted = max(state.dispatched, before.accepted + load)
        counts = Counts(load, accepted, accepted - load, 0, 1.0, power_kw=0.0)
        self.tracker.report(name, counts)  # the event log has the same counters: it is not stale
        page = Reading(
            load,
            power_kw=0.0,
            rated_power_kw=self._rated.get(name),
            counts=counts,
            session_seconds=self.session_seconds,
        )
        self.watch.on_reading(name, page, self.now)

    def fail_page(self, name: str, problem: str = "away") -> None:
        """Have a substation's page fail."""
        self.watch.on_failure(name, problem)

    def read_events(self, *read: Event, writer: str = provenance.DISPATCHER) -> None:
        """Have events read in the event log, by default from a writer that may write any event."""
        self.read_log(events.encode(read), writer)

    def read_log(self, body: bytes, writer: str = provenance.DISPATCHER) -> None:
        """Have a message of the event log read."""
        self.log_reader.on_message(body, writer)

    def _record_missing_queues(self) -> None:
        declare = self.core.queues.declare

        def recorded(substation: str, now: float) -> None:
            self.missing.append(substation)
            declare(substation, now)

        self.core.queues.declare = recorded  # type: ignore[method-assign]

    def in_hand(self) -> JobsInHand:
        """Return the jobs that it has not acknowledged."""
        return self.core.in_hand(self.queue.unsettled)

    def find_dead(self, substation: str) -> None:
        """Make the failure detector find a substation dead whose page fails."""
        state = QueueState(ready=0, consumers=0)
        self.shell.feed(QueueObserved(LookAtQueue(substation), state))
        for pause in (0.0, RESCUE_AFTER, *[INTERVAL_SECONDS] * DEAD_LOOKS):
            self.now += pause
            self.shell.feed(ReclaimDue(is_fed=True))

    def read_older_events(self) -> None:
        """Have the older part of the event log read, which has no open jobs."""
        self.shell.feed(OlderEventsRead(OpenJobs()))

    def begin(self) -> None:
        """Have it decide from now on."""
        self.shell.feed(Begin())

    def route(self) -> None:
        """Have it assign what waits, if there is capacity."""
        self.shell.feed(Route())

    def unsettled_since(self) -> int:
        """Return from where on a successor has to read the log, once what is settled is pruned."""
        self.shell.tick()
        return self.core.unsettled_since(self.position)

    async def catch_up(self) -> None:
        """Have all read that the event log had when it started."""
        task = asyncio.create_task(self.log_reader.catch_up())
        await turns()
        self.read_events(*self.publisher.events(MARKER))
        await task

    def count(self, name: str, **labels: str) -> float:
        """Return a metric's value."""
        return self.registry.get_sample_value(f"dispatcher_{name}", labels) or 0.0

    def publishing(self, substation: str) -> int:
        """Return how many jobs are in flight to a substation's queue, for the core."""
        return self.core.life.publishing[substation]

    def routed(self) -> list[str]:
        """Name the jobs that were sent, in their order."""
        return [job for job, _ in self.publisher.routed()]
