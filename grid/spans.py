"""Spans of requests for an OpenTelemetry collector, where one is named.

Where none is, nothing of OpenTelemetry is imported, and no span is made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from grid.settings import Settings
from grid.trace import Record

log = logging.getLogger(__name__)

NOT_INSTALLED: Final = (
    "no spans are exported to OTEL_EXPORTER_OTLP_ENDPOINT=%s: %s; install what "
    "requirements-otel.lock lists, or unset the variable"
)


@dataclass(frozen=True, slots=True)
class Spans:
    """Where a service's spans go: ``record`` is None if nowhere.

    ``run`` exports them until it is cancelled, and then what is left.
    """

    record: Record | None
    run: Callable[[], Coroutine[Any, Any, None]]


def spans_of(settings: Settings, service: str, instance: str) -> Spans:
    """Return where the spans of a service go; one that is not alone is named by ``instance``."""
    endpoint = settings.otlp_endpoint
    if endpoint is None:
        return Spans(None, _nothing)
    try:
        from grid.tracing import SpanExport  # noqa: PLC0415  # what it imports may not be there
    except ImportError as error:
        reason = str(error)

        async def warn() -> None:
            log.warning(NOT_INSTALLED, endpoint, reason)

        return Spans(None, warn)
    export = SpanExport(endpoint, service, instance)
    return Spans(export.record, export.run)


async def _nothing() -> None:
    pass
