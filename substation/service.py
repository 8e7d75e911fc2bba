"""The parts of a substation, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from uuid import uuid4

from starlette.applications import Starlette

from grid import cancellation_log, provenance, topology
from grid.amqp import Consumer, Publisher, StreamReader
from grid.event_log import EventWriter
from grid.isolation import Isolation
from grid.operations import operations_app
from grid.runtime import background
from grid.spans import spans_of
from grid.summary import summarise
from grid.telemetry import BrokerWatch, links_down, new_registry
from substation.settings import SubstationSettings
from substation.station import Station
from substation.telemetry import StationCollector, name_page, session_seconds
from substation.worker import Worker


def build(
    settings: SubstationSettings,
    random: Random,
    clock: Callable[[], float],
    now: Callable[[], float],
) -> Starlette:
    """Return a substation that works while the app's lifespan lasts.

    ``clock`` returns Unix seconds, ``now`` those of a steady clock.
    """
    name, urls = settings.substation_id, settings.broker_urls()
    registry = new_registry()
    watch = BrokerWatch(registry, logging.getLogger("substation"))
    # the start on the metrics page shows that events and pages belong to one run
    started_at = registry.get_sample_value("process_start_time_seconds") or clock()
    station = Station(
        settings.connectors, settings.rated_power_kw, settings.background_power_kw, started_at
    )
    name_page(registry, name)
    registry.register(StationCollector(station))
    publisher = Publisher(f"{name}-events", urls, watch)
    events = EventWriter(publisher, f"{name}-{uuid4().hex[:8]}", provenance.substation_writer(name))
    consumer = Consumer(
        f"{name}-jobs",
        urls,
        watch,
        queue=topology.substation_queue(name).name,
        prefetch=settings.connectors + 1,  # one job sent ahead starts without delay
    )
    canceller = StreamReader(f"{name}-cancellations", urls, watch, queue=topology.CANCELLATIONS)
    spans = spans_of(settings, "substation", name)
    worker = Worker(
        name,
        station,
        events,
        consumer=consumer,
        charge_seconds=(settings.charge_seconds_min, settings.charge_seconds_max),
        charge_speed=settings.charge_speed,
        random=random,
        chance=random.getrandbits,
        clock=clock,
        now=now,
        observe=session_seconds(registry).observe,
        record=spans.record,
    )

    cancel = cancellation_log.reading(worker.cancel, Isolation(registry))
    links = [publisher, consumer, canceller]

    async def consume() -> None:
        await cancellation_log.read_to_end(canceller)
        await consumer.run(
            deliver=worker.deliver, lost=worker.on_link_lost, gone=worker.keep, idle=worker.idle
        )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with background(
            publisher.run(),
            consume(),
            canceller.run(read=cancel),
            summarise(
                logging.getLogger("substation"),
                station.totals,
                lambda: f"{len(station.sessions)} charge",
            ),
            spans.run(),
        ):
            yield
            await worker.stop(settings.grace_seconds)
            await events.finish()

    return operations_app(registry, lambda: links_down(links), lifespan)
