"""The parts of the dispatcher, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random, SystemRandom
from time import monotonic
from typing import Final, TypeVar
from uuid import uuid4

from fastapi import FastAPI

from dispatcher.dead import PREFETCH as DEAD_PREFETCH
from dispatcher.dead import DeadLetters
from dispatcher.decision.fleet import Fleet
from dispatcher.decision.ledger import Ledger
from dispatcher.decision.policy import policy
from dispatcher.dispatcher import Dispatcher
from dispatcher.history import REMEMBERED
from dispatcher.jobs import Job
from dispatcher.log_start import find_start
from dispatcher.open_jobs import OpenJobs
from dispatcher.parking import Parking
from dispatcher.past import read_past
from dispatcher.patience import Patience
from dispatcher.progress import Progress
from dispatcher.queues import QueueKeeper
from dispatcher.reconcile import Reconciler
from dispatcher.report import Snapshots, announce
from dispatcher.rescue import Rescue
from dispatcher.scraper import Scraper
from dispatcher.settings import DispatcherSettings
from dispatcher.target_file import TargetFile
from dispatcher.telemetry import LedgerCollector, Metrics
from dispatcher.unbegun import Unbegun
from dispatcher.watch import SubstationWatch, Turn
from grid import provenance, topology
from grid.amqp import (
    Consumer,
    Declarer,
    Link,
    Publisher,
    StreamReader,
    StreamScanner,
    Taker,
)
from grid.control_log import ControlLog
from grid.controls import Control
from grid.errors import STILL_READING, BrokerUnavailable
from grid.event_log import EventWriter, Mark
from grid.isolation import Isolation
from grid.runtime import background, operations_app
from grid.telemetry import BrokerWatch, links_down, new_registry
from grid.waiting import within

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
GAP_SECONDS: Final = 0.05  # an acknowledgement waits so long for those before it
SETTLING: Final = "the substations are still being read for the first time"

AnyLink = TypeVar("AnyLink", bound=Link)


def build(settings: DispatcherSettings, random: Random, clock: Callable[[], float]) -> FastAPI:
    """Wire a dispatcher; it works while the app's lifespan lasts. ``clock`` gives Unix seconds."""
    return _Service(settings, random, clock).app()


class _Service:
    """Every part of one dispatcher; each method wires what belongs to one purpose."""

    def __init__(
        self, settings: DispatcherSettings, random: Random, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._urls = settings.broker_urls()
        self._clock, self._now = clock, monotonic
        self._registry = new_registry()
        self._metrics = Metrics(self._registry)
        self._isolation = Isolation(self._registry)
        self._broker = BrokerWatch(self._registry, logging.getLogger("dispatcher"))
        self._links: list[Link] = []
        self._leased: list[Consumer | Taker] = []
        self._ledger = Ledger(settings.stale_after, settings.default_connectors)
        self._fleet = Fleet(self._ledger, settings.scrape_period, settings.slow_start)
        self._progress = Progress(REMEMBERED)
        self._jobs = OpenJobs()
        self._terms_read = -1
        self._past_wanted, self._past_read = asyncio.Event(), asyncio.Event()
        self._name = f"dispatcher-{uuid4().hex[:8]}"
        self._turn = Turn(self._name, self._now)
        publisher = self._link(Publisher("dispatcher-jobs", self._urls, self._broker))
        self._events = EventWriter(publisher, self._name, provenance.DISPATCHER)
        self._mark = Mark(self._events, clock)
        declarer = self._link(Declarer("dispatcher-queues", self._urls, self._broker))
        self._queues = QueueKeeper(self._ledger, declarer, self._isolation, self._now)
        self._unbegun = Unbegun(self._progress, self._read_log, self._takes_jobs, self._now)
        self._dispatcher = self._deciding(publisher, random)
        dead = DeadLetters(Parking(publisher, self._events, self._metrics, clock))
        self._dead = self._link(
            Consumer(
                "dispatcher-dead",
                self._urls,
                self._broker,
                queue=topology.DEAD,
                prefetch=DEAD_PREFETCH,
                deliver=dead.deliver,
            )
        )
        self._rescue = self._rescuing()
        self._scraper = self._watching()
        self._controls, self._controls_up = self._controlling()
        self._reconciler = Reconciler(
            self._jobs,
            self._progress,
            self._dispatcher,
            declarer=declarer,
            scanner=self._scanner,
            # one that a queue without a leader breaks must not take the jobs with it
            publisher=self._link(Publisher("dispatcher-again", self._urls, self._broker)),
            metrics=self._metrics,
            is_active=self._is_active,
            undisputed=lambda: self._turn.undisputed,
            whereabouts=self._queues.whereabouts,
            read_log=self._read_log,
            position=lambda: self._log.position,
            dead_in_hand=lambda: self._dead.unsettled,
            now=self._now,
        )

    def app(self) -> FastAPI:
        """Give the app in whose lifespan all of it works."""
        return operations_app("Dispatcher", self._registry, self._problems, self._lifespan)

    def _link(self, link: AnyLink) -> AnyLink:
        self._links.append(link)
        return link

    def _deciding(self, publisher: Publisher, random: Random) -> Dispatcher:
        """Wire the requests to the decision, and that to the substations' queues."""
        settings = self._settings
        dispatcher = Dispatcher(
            self._fleet,
            policy(settings.policy),
            publisher,
            self._events,
            self._progress,
            metrics=self._metrics,
            random=random,
            chance=SystemRandom().getrandbits,
            clock=self._clock,
            now=self._now,
            on_missing_queue=self._queues.missing,
            on_delivery=self._on_delivery,
            on_sent=self._on_sent,
            read_log=self._read_log,
            read_all=self._read_all,
            open_jobs=self._jobs,
            certain=lambda: not any(link.lapsed for link in self._leased),
            position=lambda: self._log.position,
            send_ahead=settings.send_ahead,
        )
        self._queues.sending = dispatcher.sending
        self._unbegun.send = dispatcher.send_once_more
        consumer = Consumer(
            "dispatcher-requests",
            self._urls,
            self._broker,
            queue=topology.REQUESTS,
            prefetch=settings.prefetch,
            deliver=dispatcher.intake.deliver,
            forget=dispatcher.on_requests_lost,
            leased=True,
            gap_seconds=GAP_SECONDS,
        )
        self._leased.append(consumer)
        self._requests = consumer  # whose link begins last
        dispatcher.connect(consumer, settings.prefetch)
        self._registry.register(
            LedgerCollector(dispatcher.candidates, lambda: dispatcher.waiting, self._blind)
        )
        return dispatcher

    def _rescuing(self) -> Rescue:
        """Wire the taking back of jobs that wait at a substation in vain."""
        ledger, dispatcher = self._ledger, self._dispatcher
        rescue = Rescue(
            self._progress,
            Patience(self._settings.rescue_after),
            self._jobs,
            reachable=lambda: ledger.readable(self._now()),
            look=self._queues.state,
            take_back=dispatcher.take_back,
            give_back=dispatcher.give_back,
            # else RabbitMQ may feed another one, of which nothing is heard here
            at_work=lambda: (
                not self._turn.standing_by and self._requests.connected and self._log.connected
            ),
            anywhere_else=lambda name: (
                dispatcher.deciding
                and not self._turn.standing_by
                and self._terms_read == self._turn.terms
                and self._jobs.complete
                and ledger.another(name, self._now())
            ),
            rescued=lambda name: self._metrics.rescued.labels(name).inc(),
            now=self._now,
        )
        taker = Taker(
            "dispatcher-rescue", self._urls, self._broker, forget=self._on_rescue_lost, leased=True
        )
        self._leased.append(taker)
        rescue.connect(self._link(taker))
        self._queues.holding = rescue.holds
        return rescue

    def _on_rescue_lost(self) -> None:
        self._rescue.on_link_lost()
        self._dispatcher.on_taken_back_lost()

    def _watching(self) -> Scraper:
        """Wire the pages and the event log to the ledger."""
        settings = self._settings
        watch = self._watch = SubstationWatch(
            self._ledger,
            self._dispatcher.route,
            self._queues.missing,
            self._metrics,
            isolation=self._isolation,
            mark=self._mark,
            progress=self._progress,
            jobs=self._jobs,
            position=lambda: self._log.position,
            turn=self._turn,
            inherit=self._dispatcher.inherit,
            now=self._now,
            clock=self._clock,
        )
        self._log = StreamReader(
            "dispatcher-events",
            self._urls,
            self._broker,
            queue=topology.EVENTS,
            read=watch.on_events,
        )
        self._scanner = self._link(StreamScanner("dispatcher-log", self._urls, self._broker))
        self._file = file = TargetFile(settings.substations_file)
        self._metrics.target_file_ok.set_function(lambda: file.problem is None)
        scraper = Scraper(
            file,
            settings.scrape_period,
            settings.scrape_timeout,
            clock=self._clock,
            isolation=self._isolation,
            on_targets=watch.on_targets,
            on_reading=watch.on_reading,
            on_failure=watch.on_failure,
        )
        self._queues.hurry = scraper.hurry
        return scraper

    def _controlling(self) -> tuple[ControlLog, StreamReader]:
        """Wire what operators set to the ledger.

        A link of its own writes the marks: at a broker without that stream it breaks again and
        again, and must not take the jobs with it.
        """
        publisher = Publisher("dispatcher-controls-out", self._urls, self._broker)
        controls = ControlLog(self._link(publisher), self._name, self._on_control)
        reader = StreamReader(
            "dispatcher-controls",
            self._urls,
            self._broker,
            queue=topology.CONTROLS,
            start="first",
            read=self._isolation.reading("a message of the controls", controls.read),
            forget=controls.forget,
        )
        return controls, self._link(reader)

    def _on_control(self, substation: str, control: Control) -> None:
        # the controls are read from their start by every dispatcher that starts
        with self._isolation.of(f"what operators have set for {substation}"):
            self._ledger.control(substation, control)

    def _blind(self) -> bool:
        return self._fleet.blind(self._now())

    def _on_delivery(self) -> None:
        """Take over from another dispatcher that may have sent jobs until this request came."""
        if self._turn.take():
            self._ledger.let_go()
            self._ledger.settle(self._now())

    def _on_sent(self, job: Job) -> None:
        """Remember a job until it begins; its decision may not be read in the log yet, or never."""
        self._unbegun.note(job)
        self._jobs.assign(job.id, job.substation, job.replays, job.assigned_at)

    def _is_active(self) -> bool:
        """Return whether this dispatcher is the one at work, and knows all that it was given."""
        dispatcher = self._dispatcher
        return (
            dispatcher.deciding
            and self._requests.connected
            and not self._requests.lapsed
            and not self._turn.standing_by
            and self._terms_read == self._turn.terms
            and not dispatcher.intake.held
        )

    async def _follow_log(self) -> None:
        """Read the event log, from as far back as is needed, until the task is cancelled."""
        start = await self._find_start()
        end = start if isinstance(start, int) else 0
        await asyncio.gather(self._log.run_from(start), self._read_past(end))

    async def _read_past(self, end: int) -> None:
        """Learn which jobs were open before; most decisions need not wait for that."""
        began = self._now()
        while end > 0 and not self._is_past_due(self._now() - began):
            await within(TAKEOVER_SECONDS, self._past_wanted.wait())
        tries = 0
        while not self._jobs.complete:
            try:
                self._jobs.absorb(await read_past(self._scanner, end))
            except BrokerUnavailable as error:
                tries += 1
                if tries in (1, PAST_TRIES):
                    level = logging.WARNING if tries == PAST_TRIES else logging.INFO
                    log.log(level, "the older part of the event log cannot be read: %s", error)
                if 0 < self._log.position < end:
                    end = 0  # the log was made anew: there is nothing older
                await asyncio.sleep(LOG_RETRY_SECONDS)
        self._past_read.set()
        log.info("the older part of the event log is read: %d jobs wait", self._jobs.waiting)

    def _is_past_due(self, waited: float) -> bool:
        """Return whether the older part of the log is to be read, so many seconds after a start."""
        standing_by = self._turn.standing_by
        wait = PAST_AFTER_STANDING_BY_SECONDS if standing_by else PAST_AFTER_SECONDS
        return self._past_wanted.is_set() or waited >= wait

    async def _find_start(self) -> str | int:
        while True:
            await self._scanner.up.wait()
            try:
                return await find_start(self._scanner)
            except BrokerUnavailable as error:
                log.info("the event log cannot be read yet: %s", error)
                await asyncio.sleep(LOG_RETRY_SECONDS)

    async def _consume(self) -> None:
        """Ask for requests once it is known what operators have set, and what was sent before.

        Not earlier: RabbitMQ gives the requests to one dispatcher, and another may be ready.
        """
        await self._controls.caught_up.wait()
        await self._mark.write()
        self._ledger.settle(self._now())
        self._dispatcher.begin()
        await self._requests.run()

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
            if self._terms_read != (terms := self._turn.terms):
                await self._read_log()
                self._terms_read = terms
            await asyncio.sleep(TAKEOVER_SECONDS)

    async def _takes_jobs(self, substation: str) -> bool:
        """Tell whether a job sent there must have begun by now; where another is at work, nothing.

        That one may have taken the job back, and have it in hand.
        """
        return not self._turn.standing_by and await self._queues.takes_jobs(substation)

    def _problems(self) -> list[str]:
        down = links_down([*self._links, self._log, self._requests])
        begun = [] if self._controls.caught_up.is_set() else [NOT_BEGUN]
        reading = [] if self._mark.passed.is_set() else [STILL_READING]
        file = [self._file.problem] if self._file.problem else []
        settling = [SETTLING] if self._ledger.settling(self._now()) else []
        return down + begun + reading + file + settling

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        candidates = self._dispatcher.candidates
        snapshots = Snapshots(
            candidates,
            self._ledger.former,
            self._events,
            self._turn,
            unsettled_since=self._dispatcher.unsettled_since,
            clock=self._clock,
        )
        work = [
            *(link.run() for link in self._links),
            self._queues.run(),
            self._scraper.run(),
            self._controls.run(self._controls_up.up),
            self._follow_log(),
            self._consume(),
            self._dispatcher.run(),
            self._dispatcher.intake.run(),
            self._rescue.run(),
            self._unbegun.run(),
            self._reconciler.run(),
            self._read_at_takeover(),
            snapshots.publish(),
            announce(candidates, self._blind),
        ]
        async with background(*work):
            yield
            snapshots.take_leave()
            await self._dispatcher.stop()
