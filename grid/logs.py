"""Logs: lines of text for people, a JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from grid.trace import Trace

_FIELDS: Final = "fields"  # the attribute of a record that holds its further fields
LOG_INTERVAL: Final = 30.0


class LogThrottle:
    """A limit on how often one event is logged that may happen thousands of times a second."""

    def __init__(self) -> None:
        self._logged_at = -LOG_INTERVAL

    def is_due(self, now: float) -> bool:
        """Return whether to log it at ``now``: it was not logged for ``LOG_INTERVAL``."""
        if now < self._logged_at + LOG_INTERVAL:
            return False
        self._logged_at = now
        return True


class TextFormatter(logging.Formatter):
    """One line with the time, and the record's fields after the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        """Return a record as a line."""
        more = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return super().formatMessage(record) + more


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON: time, level, logger, message, its fields, and any error."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str, form: str) -> None:
    """Send all logs to standard error, as ``text`` or as ``json`` lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # pika reports each layer of a failed connection; the link logs each change of its state once
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)


def tell(log: logging.Logger, job: str, trace: Trace, what: str, **more: object) -> None:
    """Log what happened to a job, with its trace.

    There are very many jobs: such a line is for finding faults (level debug), unless the request's
    caller asked for it to be recorded (level info).
    """
    level = logging.INFO if trace.sampled else logging.DEBUG
    if not log.isEnabledFor(level):
        return
    known = {"job": job, "trace_id": trace.trace_id, "span_id": trace.span_id}
    if trace.parent:
        known["parent_id"] = trace.parent
    log.log(level, what, extra={_FIELDS: {**known, **more}})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, _FIELDS, {})
    return fields
