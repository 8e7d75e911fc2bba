"""The wiring of the dispatcher's parts, without logic."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from time import monotonic
from typing import Any, Final
from uuid import uuid4

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from dispatcher.choices import order, policy
from dispatcher.core import Core
from dispatcher.dead import DeadLetters
from dispatcher.failure_detector import FailureDetector
from dispatcher.inputs import Begin, ControlChanged, JobCancelled, Moment
from dispatcher.links import make_links
from dispatcher.log_reader import OWN_EVENTS, LogReader
from dispatcher.metrics import LoadCollector, Metrics
from dispatcher.queue_edge import JobTaker, QueueWatch
from dispatcher.reconcile import Reconciler
from dispatcher.report import Snapshots, announce
from dispatcher.scraper import Scraper
from dispatcher.settings import DispatcherSettings
from dispatcher.shell import Shell
from dispatcher.standby import Standby
from dispatcher.target_file import TargetFile
from dispatcher.watch import SubstationWatch
from grid import cancellation_log, provenance, topology
from grid.cancellations import Cancellation
from grid.control_log import ControlLog
from grid.controls import Control
from grid.errors import STILL_READING
from grid.event_log import EventWriter
from grid.isolation import Isolation
from grid.operations import operations_app
from grid.runtime import background
from grid.spans import spans_of
from grid.summary import summarise
from grid.telemetry import BrokerWatch, links_down, new_registry
from scheduling.candidates import CandidateTable
from scheduling.explain import Candidate
from scheduling.load_tracker import LoadTracker
from scheduling.rules import Rules

log = logging.getLogger(__name__)

NOT_BEGUN: Final = (
    f"the operators' controls ({topology.CONTROLS}) are still being read; at a broker of your own, "
    "`python -m grid declare` declares what is missing"
)
SETTLING: Final = "the substations are still being read for the first time"


def build(settings: DispatcherSettings, random: Random, clock: Callable[[], float]) -> Starlette:
    """Return a dispatcher, which runs during the app's lifespan.

    ``clock`` returns Unix seconds.
    """
    registry = new_registry()
    dispatcher = _Dispatcher(settings, random, clock, registry)
    return operations_app(registry, dispatcher.problems, dispatcher.lifespan)


class _Dispatcher:
    """The parts of one dispatcher; each is built from earlier ones."""

    def __init__(
        self,
        settings: DispatcherSettings,
        random: Random,
        clock: Callable[[], float],
        registry: CollectorRegistry,
    ) -> None:
        now = self._now = monotonic
        self._clock = clock
        metrics = self._metrics = Metrics(registry)
        isolation = self._isolation = Isolation(registry)
        watch = BrokerWatch(registry, logging.getLogger("dispatcher"))
        links = self._links = make_links(settings.broker_urls(), watch, settings.prefetch)
        name = f"dispatcher-{uuid4().hex[:8]}"
        self._spans = spans_of(settings, "dispatcher", name)
        events = self._events = EventWriter(
            links.jobs, name, provenance.DISPATCHER, remembered=OWN_EVENTS
        )

        tracker = self._tracker = LoadTracker(settings.stale_after, settings.default_connectors)
        table = self._table = CandidateTable(tracker, settings.scrape_period, settings.slow_start)
        rules = Rules(
            order(settings.order, settings.due_after or {}),
            policy(settings.policy),
            settings.charge_speed or 1.0,
            settings.send_ahead,
            settings.tenant_weights or {},
            settings.reserve,
        )
        core = self._core = Core(
            table,
            rules,
            Standby(name),
            metrics,
            FailureDetector(settings.rescue_after),
            random=random,
            prefetch=settings.prefetch,
        )
        file = self._file = TargetFile(settings.substations_file)
        period, timeout = settings.scrape_period, settings.scrape_timeout
        scraper = Scraper(file, period, timeout, clock=clock, isolation=isolation)
        shell = self._shell = Shell(
            core,
            links.jobs,
            events,
            requests=links.requests,
            metrics=metrics,
            isolation=isolation,
            moment=self._moment,
            scrape=scraper.hurry,
            record=self._spans.record,
        )
        self._log_reader = LogReader(shell, links, events, clock=clock, now=now)
        self._scraper, self._queues = scraper, QueueWatch(shell, links.queues, isolation)
        self._watch = SubstationWatch(shell, metrics, isolation)
        # the controls are read from their start by every dispatcher that starts
        self._controls = ControlLog(links.controls_out, name, self._on_control)
        self._dead = DeadLetters(shell.parking)
        self._taker = JobTaker(shell, links.reclaimed, self._is_fed)
        self._reconciler = Reconciler(shell, links, metrics, now)
        metrics.target_file_ok.set_function(lambda: file.problem is None)
        registry.register(
            LoadCollector(
                self._candidates,
                lambda: core.waiting_for_capacity,
                self._blind,
                takeovers=lambda: core.standby.terms,
                promised=lambda: len(core.open_jobs.booked),
            )
        )

    def problems(self) -> list[str]:
        """Return why this dispatcher is not ready."""
        down = links_down(self._links.all)
        begun = [] if self._controls.caught_up.is_set() else [NOT_BEGUN]
        reading = [] if self._log_reader.caught_up else [STILL_READING]
        file = [self._file.problem] if self._file.problem else []
        settling = [SETTLING] if self._tracker.settling(self._now()) else []
        return down + begun + reading + file + settling

    def _held(self) -> str:
        """Return what is not sent yet, in words."""
        promised = len(self._core.open_jobs.booked)
        waiting = f"{self._core.waiting_for_capacity} wait"
        return f"{waiting}, {promised} starts are promised" if promised else waiting

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Run all parts; at the end, write a last snapshot for other dispatchers."""
        core, reader = self._core, self._log_reader
        snapshots = Snapshots(
            self._candidates,
            self._tracker.former,
            self._events,
            core.standby,
            unsettled_since=lambda: core.unsettled_since(self._links.log.position),
            kept_for=lambda: core.kept_for(self._now()),
            clock=self._clock,
            now=self._now,
        )
        work = [
            *self._run_links(),
            self._queues.run(),
            self._scraper.run(self._watch),
            self._controls.run(self._links.controls.up),
            reader.run(),
            self._consume(),
            self._shell.run(reader.read_new, reader.read_all, self._queues.state),
            self._taker.run(),
            self._reconciler.run(reader.read_new, self._queues.whereabouts),
            snapshots.publish(),
            announce(self._candidates, self._blind),
            summarise(logging.getLogger("dispatcher"), self._sent, self._held),
            self._spans.run(),
        ]
        async with background(*work):
            yield
            snapshots.write_last()
            await self._shell.stop()

    def _run_links(self) -> list[Coroutine[Any, Any, None]]:
        """Return the coroutines of the links that need no preparation."""
        links, controls = self._links, self._controls
        read = self._isolation.reading("a message of the controls", controls.read)
        return [
            links.jobs.run(),
            links.queues.run(),
            links.dead.run(deliver=self._dead.deliver),
            links.reclaimed.run(lost=self._shell.on_reclaimed_lost),
            links.scanner.run(),
            links.controls_out.run(),
            links.controls.run(read=read, forget=controls.forget),
            links.cancellations.run(
                read=cancellation_log.reading(self._on_cancellation, self._isolation)
            ),
            links.again.run(),
        ]

    async def _consume(self) -> None:
        """Consume requests once controls, earlier decisions and cancellations are read.

        Not earlier: RabbitMQ delivers requests to one dispatcher, and another may be ready.
        """
        await self._controls.caught_up.wait()
        await self._log_reader.catch_up()
        await cancellation_log.read_to_end(self._links.cancellations)
        self._shell.feed(Begin())
        await self._links.requests.run(
            deliver=self._shell.on_request, lost=self._shell.on_requests_lost
        )

    def _is_fed(self) -> bool:
        return self._links.requests.connected and self._links.log.connected

    def _moment(self) -> Moment:
        links = self._links
        return Moment(self._now(), self._clock(), links.log.position, links.no_lease_lapsed)

    def _sent(self) -> dict[str, float]:
        return {f"sent to {name}": count for name, count in self._metrics.sent().items()}

    def _candidates(self) -> list[Candidate]:
        return self._core.candidates(self._now())

    def _blind(self) -> bool:
        return self._table.blind(self._now())

    def _on_control(self, substation: str, control: Control) -> None:
        with self._isolation.of(f"what operators have set for {substation}"):
            self._shell.feed(ControlChanged(substation, control))

    def _on_cancellation(self, cancellation: Cancellation) -> None:
        self._shell.feed(JobCancelled(cancellation))
