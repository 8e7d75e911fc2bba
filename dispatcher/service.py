"""The parts of the dispatcher, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from time import monotonic
from uuid import uuid4

from fastapi import FastAPI

from dispatcher.dispatcher import Dispatcher
from dispatcher.ledger import Ledger
from dispatcher.policy import policy
from dispatcher.queues import QueueKeeper
from dispatcher.scraper import Scraper, TargetFile
from dispatcher.settings import DispatcherSettings
from dispatcher.telemetry import LedgerCollector, Metrics
from dispatcher.watch import SubstationWatch, Turn, publish_snapshots
from grid import topology
from grid.amqp import Consumer, Declarer, Publisher, StreamReader
from grid.event_log import EventWriter
from grid.runtime import background, operations_app
from grid.telemetry import BrokerWatch, links_down, new_registry


def build(settings: DispatcherSettings, random: Random, clock: Callable[[], float]) -> FastAPI:
    """Wire a dispatcher; it works while the app's lifespan lasts. ``clock`` gives Unix seconds."""
    urls = settings.broker_urls()
    registry, now = new_registry(), monotonic
    metrics = Metrics(registry)
    broker = BrokerWatch(registry, logging.getLogger("dispatcher"))
    ledger = Ledger(settings.stale_after, settings.default_connectors)
    publisher = Publisher("dispatcher-jobs", urls, broker)
    name = f"dispatcher-{uuid4().hex[:8]}"
    events, turn = EventWriter(publisher, name), Turn(name, now)
    declarer = Declarer("dispatcher-queues", urls, broker)
    queues = QueueKeeper(ledger, declarer, now)
    dispatcher = Dispatcher(
        ledger,
        policy(settings.policy),
        publisher,
        events,
        metrics,
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
    watch = SubstationWatch(ledger, dispatcher.route, queues.missing, metrics, turn)
    reader = StreamReader(
        "dispatcher-events", urls, broker, queue=topology.EVENTS, start="next", read=watch.on_events
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
    registry.register(LedgerCollector(dispatcher.candidates, lambda: dispatcher.waiting))
    links = [publisher, declarer, consumer, reader]

    def problems() -> list[str]:
        return links_down(links) + ([file.problem] if file.problem else [])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        snapshots = publish_snapshots(dispatcher.candidates, events, turn, clock)
        work = [link.run() for link in links]
        async with background(*work, queues.run(), scraper.run(), snapshots):
            yield
            await dispatcher.stop()

    return operations_app("Dispatcher", registry, problems, lifespan)
