"""The parts of the dispatcher, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from time import monotonic
from typing import Any, Final
from uuid import uuid4

from fastapi import FastAPI

from dispatcher.core import Core
from dispatcher.dead import DeadLetters
from dispatcher.failure_detector import FailureDetector
from dispatcher.inputs import Begin, ControlChanged, Moment
from dispatcher.links import make_links
from dispatcher.log_start import find_start
from dispatcher.metrics import LoadCollector, Metrics
from dispatcher.parking import Parking
from dispatcher.past import read_past
from dispatcher.policy import policy
from dispatcher.queues import QueueKeeper
from dispatcher.reclaim import Reclaimer
from dispatcher.reconcile import Reconciler
from dispatcher.report import Snapshots, announce
from dispatcher.scraper import Scraper
from dispatcher.settings import DispatcherSettings
from dispatcher.shell import Shell
from dispatcher.standby import Standby
from dispatcher.target_file import TargetFile
from dispatcher.watch import SubstationWatch
from grid import provenance, topology
from grid.amqp import QueueState
from grid.control_log import ControlLog
from grid.controls import Control
from grid.errors import STILL_READING, BrokerUnavailable
from grid.event_log import EventWriter, Mark
from grid.isolation import Isolation
from grid.runtime import background, operations_app
from grid.telemetry import BrokerWatch, links_down, new_registry
from grid.waiting import within
from scheduling.candidates import CandidateTable
from scheduling.explain import Candidate
from scheduling.load_tracker import LoadTracker

log = logging.getLogger(__name__)

NOT_BEGUN: Final = (
    f"what operators have set ({topology.CONTROLS}) is still being read; at a broker of your own, "
    "`python -m grid declare` makes what is missing"
)
TAKEOVER_SECONDS: Final = 0.25  # between two looks whether this dispatcher has taken over
PAST_AFTER_SECONDS: Final = 3.0  # what matters at once is read by then
PAST_AFTER_STANDING_BY_SECONDS: Final = 60.0  # two that read at once take twice as long
PAST_TRIES: Final = 10  # beyond, what waits for it may wait for long: somebody should look
LOG_RETRY_SECONDS: Final = 1.0  # after the event log could not be looked into
SETTLING: Final = "the substations are still being read for the first time"


def build(settings: DispatcherSettings, random: Random, clock: Callable[[], float]) -> FastAPI:
    """Wire a dispatcher; it works while the app's lifespan lasts. ``clock`` gives Unix seconds."""
    return _Service(settings, random, clock).app()


class _Service:
    """Every part of one dispatcher; each method wires what belongs to one purpose."""

    def __init__(
        self, settings: DispatcherSettings, random: Random, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._clock, self._now = clock, monotonic
        self._registry = new_registry()
        self._metrics = Metrics(self._registry)
        self._isolation = Isolation(self._registry)
        watch = BrokerWatch(self._registry, logging.getLogger("dispatcher"))
        self._links = make_links(settings.broker_urls(), watch, settings.prefetch)
        self._tracker = LoadTracker(settings.stale_after, settings.default_connectors)
        self._table = CandidateTable(self._tracker, settings.scrape_period, settings.slow_start)
        self._terms_read = -1
        self._past_wanted, self._past_read = asyncio.Event(), asyncio.Event()
        self._name = f"dispatcher-{uuid4().hex[:8]}"
        self._standby = Standby(self._name, self._now)
        self._events = EventWriter(self._links.jobs, self._name, provenance.DISPATCHER)
        self._mark = Mark(self._events, clock)
        self._core = Core(
            self._table,
            policy(settings.policy),
            self._standby,
            self._metrics,
            random=random,
            chance=random.getrandbits,
            prefetch=settings.prefetch,
            send_ahead=settings.send_ahead,
        )
        self._jobs = self._core.open_jobs
        self._shell = Shell(
            self._core,
            self._links.jobs,
            self._events,
            requests=self._links.requests,
            metrics=self._metrics,
            isolation=self._isolation,
            moment=self._moment,
            declare=self._on_missing_queue,
        )
        self._registry.register(
            LoadCollector(self._candidates, lambda: self._core.waiting, self._blind)
        )
        self._dead = DeadLetters(Parking(self._links.jobs, self._events, self._metrics, clock))
        self._reclaimer = self._reclaiming()
        self._scraper = self._watching()
        self._queues = QueueKeeper(
            self._tracker,
            self._links.queues,
            self._isolation,
            sending=self._core.publishing,
            holding=self._reclaimer.holds,
            hurry=self._scraper.hurry,
            now=self._now,
        )
        # the controls are read from their start by every dispatcher that starts
        self._controls = ControlLog(self._links.controls_out, self._name, self._on_control)
        self._reconciler = Reconciler(
            self._jobs,
            self._core.index,
            self._shell,
            declarer=self._links.queues,
            scanner=self._links.scanner,
            publisher=self._links.again,
            metrics=self._metrics,
            is_active=self._is_active,
            undisputed=lambda: self._standby.undisputed,
            whereabouts=self._queues.whereabouts,
            read_log=self._read_log,
            position=self._position,
            dead_in_hand=lambda: self._links.dead.unsettled,
            now=self._now,
        )

    def app(self) -> FastAPI:
        """Return the app in whose lifespan all of it works."""
        return operations_app("Dispatcher", self._registry, self._problems, self._lifespan)

    def _position(self) -> int:
        return self._links.log.position

    def _moment(self) -> Moment:
        return Moment(
            self._now(), self._clock(), self._links.log.position, self._links.no_lease_lapsed
        )

    def _candidates(self) -> list[Candidate]:
        return self._core.candidates(self._now())

    def _reclaiming(self) -> Reclaimer:
        """Wire the taking back of jobs that wait at a substation in vain."""
        tracker, core = self._tracker, self._core
        return Reclaimer(
            self._links.reclaimed,
            core.index,
            FailureDetector(self._settings.rescue_after),
            self._jobs,
            reachable=lambda: tracker.readable(self._now()),
            look=self._queue_state,
            reclaim=self._shell.reclaim,
            return_reclaimed=self._shell.return_reclaimed,
            # else RabbitMQ may feed another one, of which nothing is heard here
            at_work=lambda: (
                not self._standby.is_standby
                and self._links.requests.connected
                and self._links.log.connected
            ),
            anywhere_else=lambda name: (
                core.deciding
                and not self._standby.is_standby
                and self._terms_read == self._standby.terms
                and self._jobs.complete
                and tracker.another(name, self._now())
            ),
            reclaimed=lambda name: self._metrics.reclaimed.labels(name).inc(),
            now=self._now,
        )

    def _on_reclaim_link_lost(self) -> None:
        self._reclaimer.on_link_lost()
        self._shell.on_reclaimed_lost()

    def _watching(self) -> Scraper:
        """Wire the pages and the event log to the load tracker."""
        settings = self._settings
        watch = SubstationWatch(self._shell, self._metrics, self._isolation, self._mark)
        self._watch = watch
        self._file = file = TargetFile(settings.substations_file)
        self._metrics.target_file_ok.set_function(lambda: file.problem is None)
        return Scraper(
            file,
            settings.scrape_period,
            settings.scrape_timeout,
            clock=self._clock,
            isolation=self._isolation,
            on_targets=watch.on_targets,
            on_reading=watch.on_reading,
            on_failure=watch.on_failure,
        )

    def _on_control(self, substation: str, control: Control) -> None:
        with self._isolation.of(f"what operators have set for {substation}"):
            self._shell.feed(ControlChanged(substation, control))

    def _blind(self) -> bool:
        return self._table.blind(self._now())

    def _on_missing_queue(self, substation: str) -> None:
        self._queues.missing(substation)

    def _queue_state(self, substation: str) -> QueueState | None:
        return self._queues.state(substation)

    def _is_active(self) -> bool:
        """Return whether this dispatcher is the one at work, and knows all that it was given."""
        core = self._core
        return (
            core.deciding
            and self._links.requests.connected
            and not self._links.requests.lapsed
            and not self._standby.is_standby
            and self._terms_read == self._standby.terms
            and not core.held
        )

    async def _follow_log(self) -> None:
        """Read the event log, from as far back as is needed, until the task is cancelled."""
        start = await self._find_start()
        end = start if isinstance(start, int) else 0
        await asyncio.gather(
            self._links.log.run(read=self._on_events, start=start), self._read_past(end)
        )

    def _on_events(self, body: bytes, writer: str) -> None:
        self._watch.on_events(body, writer, self._position())

    async def _read_past(self, end: int) -> None:
        """Learn which jobs were open before; most decisions need not wait for that."""
        began = self._now()
        while end > 0 and not self._is_past_due(self._now() - began):
            await within(TAKEOVER_SECONDS, self._past_wanted.wait())
        tries = 0
        while not self._jobs.complete:
            try:
                self._jobs.absorb(await read_past(self._links.scanner, end))
            except BrokerUnavailable as error:
                tries += 1
                if tries in (1, PAST_TRIES):
                    level = logging.WARNING if tries == PAST_TRIES else logging.INFO
                    log.log(level, "the older part of the event log cannot be read: %s", error)
                if 0 < self._links.log.position < end:
                    end = 0  # the log was made anew: there is nothing older
                await asyncio.sleep(LOG_RETRY_SECONDS)
        self._past_read.set()
        log.info("the older part of the event log is read: %d jobs wait", self._jobs.waiting)

    def _is_past_due(self, waited: float) -> bool:
        """Return whether the older part of the log is to be read, so many seconds after a start."""
        is_standby = self._standby.is_standby
        wait = PAST_AFTER_STANDING_BY_SECONDS if is_standby else PAST_AFTER_SECONDS
        return self._past_wanted.is_set() or waited >= wait

    async def _find_start(self) -> str | int:
        while True:
            await self._links.scanner.up.wait()
            try:
                return await find_start(self._links.scanner)
            except BrokerUnavailable as error:
                log.info("the event log cannot be read yet: %s", error)
                await asyncio.sleep(LOG_RETRY_SECONDS)

    async def _consume(self) -> None:
        """Ask for requests once it is known what operators have set, and what was sent before.

        Not earlier: RabbitMQ gives the requests to one dispatcher, and another may be ready.
        """
        await self._controls.caught_up.wait()
        await self._mark.write()
        self._tracker.settle(self._now())
        self._shell.feed(Begin())
        await self._links.requests.run(
            deliver=self._shell.on_request, lost=self._shell.on_requests_lost
        )

    async def _read_log(self) -> None:
        """Read the event log as far as it is written now."""
        mark = Mark(self._events, self._clock)
        self._watch.marks.add(mark)
        try:
            await mark.write()
        finally:
            self._watch.marks.discard(mark)

    async def _read_all(self) -> None:
        """Read the event log as far as it is written now, and what is older."""
        self._past_wanted.set()
        await self._past_read.wait()
        await self._read_log()

    async def _read_at_takeover(self) -> None:
        """Read the log each time this dispatcher takes over, before it takes any job back."""
        while True:
            if self._terms_read != (terms := self._standby.terms):
                await self._read_log()
                self._terms_read = terms
            await asyncio.sleep(TAKEOVER_SECONDS)

    async def _takes_jobs(self, substation: str) -> bool:
        """Return whether a job sent there must have begun by now; False while on standby.

        The active dispatcher may have reclaimed the job.
        """
        return not self._standby.is_standby and await self._queues.takes_jobs(substation)

    def _problems(self) -> list[str]:
        down = links_down(self._links.all)
        begun = [] if self._controls.caught_up.is_set() else [NOT_BEGUN]
        reading = [] if self._mark.passed.is_set() else [STILL_READING]
        file = [self._file.problem] if self._file.problem else []
        settling = [SETTLING] if self._tracker.settling(self._now()) else []
        return down + begun + reading + file + settling

    def _run_links(self) -> list[Coroutine[Any, Any, None]]:
        """Return what keeps the links up that nothing has to be waited for."""
        links, controls = self._links, self._controls
        read = self._isolation.reading("a message of the controls", controls.read)
        return [
            links.jobs.run(),
            links.queues.run(),
            links.dead.run(deliver=self._dead.deliver),
            links.reclaimed.run(lost=self._on_reclaim_link_lost),
            links.scanner.run(),
            links.controls_out.run(),
            links.controls.run(read=read, forget=controls.forget),
            links.again.run(),
        ]

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        snapshots = Snapshots(
            self._candidates,
            self._tracker.former,
            self._events,
            self._standby,
            unsettled_since=lambda: self._core.unsettled_since(self._position()),
            clock=self._clock,
        )
        work = [
            *self._run_links(),
            self._queues.run(),
            self._scraper.run(),
            self._controls.run(self._links.controls.up),
            self._follow_log(),
            self._consume(),
            self._shell.run(self._read_log, self._read_all, self._takes_jobs),
            self._reclaimer.run(),
            self._reconciler.run(),
            self._read_at_takeover(),
            snapshots.publish(),
            announce(self._candidates, self._blind),
        ]
        async with background(*work):
            yield
            snapshots.take_leave()
            await self._shell.stop()
