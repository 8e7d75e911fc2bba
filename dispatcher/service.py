"""The parts of the dispatcher, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from time import monotonic
from typing import Final
from uuid import uuid4

from fastapi import FastAPI

from dispatcher.decision.fleet import Fleet
from dispatcher.decision.ledger import Ledger
from dispatcher.decision.policy import policy
from dispatcher.dispatcher import Dispatcher
from dispatcher.jobs import REMEMBERED
from dispatcher.patience import Patience
from dispatcher.progress import Progress
from dispatcher.queues import QueueKeeper
from dispatcher.report import announce, publish_snapshots
from dispatcher.rescue import Rescue
from dispatcher.scraper import Scraper, TargetFile
from dispatcher.settings import DispatcherSettings
from dispatcher.telemetry import LedgerCollector, Metrics
from dispatcher.watch import SubstationWatch, Turn
from grid import topology
from grid.amqp import Consumer, Declarer, Publisher, StreamReader, Taker
from grid.event_log import EventWriter, Mark
from grid.runtime import background, operations_app
from grid.telemetry import BrokerWatch, links_down, new_registry
from grid.waiting import within

log = logging.getLogger(__name__)

LOG_READ_BACK: Final = "5m"  # of the event log, when it starts: what was sent just before
LOG_SECONDS: Final = 5.0  # to read that, before deciding all the same


def build(settings: DispatcherSettings, random: Random, clock: Callable[[], float]) -> FastAPI:
    """Wire a dispatcher; it works while the app's lifespan lasts. ``clock`` gives Unix seconds."""
    urls = settings.broker_urls()
    registry, now = new_registry(), monotonic
    metrics = Metrics(registry)
    broker = BrokerWatch(registry, logging.getLogger("dispatcher"))
    ledger = Ledger(settings.stale_after, settings.default_connectors)
    fleet = Fleet(ledger, settings.scrape_period, settings.slow_start)
    publisher = Publisher("dispatcher-jobs", urls, broker)
    name = f"dispatcher-{uuid4().hex[:8]}"
    events, turn = EventWriter(publisher, name), Turn(name, now)
    mark, progress = Mark(events, clock), Progress(REMEMBERED)
    declarer = Declarer("dispatcher-queues", urls, broker)
    queues = QueueKeeper(ledger, declarer, now)
    dispatcher = Dispatcher(
        fleet,
        policy(settings.policy),
        publisher,
        events,
        progress,
        metrics=metrics,
        random=random,
        clock=clock,
        now=now,
        on_missing_queue=queues.missing,
        on_delivery=lambda: ledger.let_go() if turn.take() else None,
    )
    queues.sending = dispatcher.sending
    consumer = Consumer(
        "dispatcher-requests",
        urls,
        broker,
        queue=topology.REQUESTS,
        prefetch=settings.prefetch,
        deliver=dispatcher.deliver,
        forget=dispatcher.forget,
    )
    dispatcher.connect(consumer, settings.prefetch)
    rescue = Rescue(
        progress,
        Patience(settings.rescue_after),
        reachable=lambda: ledger.readable(now()),
        look=queues.state,
        take_back=dispatcher.take_back,
        anywhere_else=lambda name: not turn.standing_by and ledger.another(name, now()),
        forget=dispatcher.forget_taken_back,
        rescued=lambda name: metrics.rescued.labels(name).inc(),
        now=now,
    )
    taker = Taker("dispatcher-rescue", urls, broker, forget=rescue.forget)
    rescue.connect(taker)
    dispatcher.connect_rescue(rescue.done)
    watch = SubstationWatch(
        ledger,
        dispatcher.route,
        queues.missing,
        metrics,
        mark=mark,
        progress=progress,
        turn=turn,
        now=now,
    )
    reader = StreamReader(
        "dispatcher-events",
        urls,
        broker,
        queue=topology.EVENTS,
        start=LOG_READ_BACK,
        read=watch.on_events,
    )
    file = TargetFile(settings.substations_file)
    scraper = Scraper(
        file,
        settings.scrape_period,
        settings.scrape_timeout,
        on_targets=watch.on_targets,
        on_reading=watch.on_reading,
        on_failure=watch.on_failure,
    )
    queues.hurry = scraper.hurry
    registry.register(
        LedgerCollector(
            dispatcher.candidates, lambda: dispatcher.waiting, lambda: fleet.blind(now())
        )
    )
    links = [publisher, declarer, consumer, reader, taker]

    async def begin() -> None:
        await events.until_connected()
        if not await within(LOG_SECONDS, mark.write()):
            log.warning("the event log is not read yet: a job sent just before may be sent twice")
        dispatcher.begin()

    def problems() -> list[str]:
        return links_down(links) + ([file.problem] if file.problem else [])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        snapshots = publish_snapshots(dispatcher.candidates, events, turn, clock)
        work = [link.run() for link in links]
        announcing = announce(dispatcher.candidates, lambda: fleet.blind(now()))
        deciding = (begin(), dispatcher.run(), rescue.run())
        async with background(*work, queues.run(), scraper.run(), *deciding, snapshots, announcing):
            yield
            await dispatcher.stop()

    return operations_app("Dispatcher", registry, problems, lifespan)
