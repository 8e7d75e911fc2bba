"""The page of all metrics, from the registries of the services as they are built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from unittest import mock

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

import api.__main__
import api.app
import dispatcher.__main__
import dispatcher.app
import substation.__main__
import substation.service
from grid import telemetry
from tests.docs.tables import GENERATED, code, table

HEAD: Final = """# Metrics

Every service serves `/metrics` in Prometheus's text format, or as OpenMetrics to a client that
prefers it, as Prometheus does. There the histograms name the traces of requests that are recorded
([how to](../how-to/trace-requests.md)). Values are in base units, counters
end in `_total`, and no label names a job. The alerts and recording rules are in
`deploy/prometheus`. Every page also has the metrics of its process (`process_…`), as Prometheus's
clients name them. RabbitMQ's own metrics are at port 15692, among them
`rabbitmq_detailed_queue_messages{queue="charge.parked"}`: the parked messages.

"""
TITLES: Final = {
    "all": "Every service",
    "api": "The api",
    "dispatcher": "The dispatcher",
    "substation": "A substation",
}
PARTS: Final = {"histogram": "_bucket, _sum, _count", "counter": "_total", "info": "_info"}


class Row(NamedTuple):
    """A metric as the page shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def page() -> str:
    """Return the page."""
    found = {name: set(_rows(registry)) for name, registry in registries().items()}
    shared = set.intersection(*found.values())
    parts = [GENERATED, HEAD]
    for name, title in TITLES.items():
        rows = shared if name == "all" else found[name] - shared
        shown = ([_shown(row), row.kind, row.text] for row in sorted(rows))
        parts += [f"## {title}\n\n", table(["metric", "type", "meaning"], shown)]
    return "".join(parts)


def registries() -> dict[str, CollectorRegistry]:
    """Return the registry of each service, which is built and not started."""
    services = {
        api.app: api.__main__.service,
        dispatcher.app: dispatcher.__main__.service,
        substation.service: substation.__main__.service,
    }
    told = {"SUBSTATIONS_FILE": "substations.json", "SUBSTATION_ID": "north"}
    found = {}
    for module, service in services.items():
        registry = telemetry.new_registry()
        with (
            mock.patch.dict(os.environ, told, clear=True),
            mock.patch.object(module, "new_registry", lambda r=registry: r),
        ):
            app, *_ = service()
            app.build_middleware_stack()  # which some metrics are part of
        found[module.__name__.partition(".")[0]] = registry
    return found


def _rows(registry: CollectorRegistry) -> Iterator[Row]:
    collectors: Any = getattr(registry, "_collector_to_names")  # noqa: B009
    for collector in collectors:
        for family in collector.collect():
            if not family.name.startswith(("process_", "python_")):
                yield _row(family, getattr(collector, "_labelnames", ()))


def _row(family: Metric, labels: tuple[str, ...]) -> Row:
    names = {*labels, *getattr(family, "_labelnames", ())}
    for sample in family.samples:
        names |= {*sample.labels}
    names -= {"le"}
    return Row(family.name, family.type, tuple(sorted(names)), family.documentation)


def _shown(row: Row) -> str:
    labels = f"{{{','.join(row.labels)}}}" if row.labels else ""
    if row.kind == "histogram":
        return f"{code(row.name + labels)} ({PARTS['histogram']})"
    return code(f"{row.name}{PARTS.get(row.kind, '')}{labels}")
