"""Logs: lines of text for people, a JSON object a line for machines."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from threading import get_ident
from typing import Any, Final, TextIO

from grid.trace import Trace

_FIELDS: Final = "fields"  # the attribute of a record that holds its further fields
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, default=str)
LOG_INTERVAL: Final = 30.0
JOINED_CHARACTERS: Final = 4096  # a pipe takes so many bytes without mixing them with another's


class LogThrottle:
    """A limit on how often one event is logged that may happen thousands of times a second."""

    def __init__(self) -> None:
        self._logged_at = -LOG_INTERVAL

    def acquire(self, now: float) -> bool:
        """Return whether to log it at ``now``; if so, not again for ``LOG_INTERVAL``."""
        if now < self._logged_at + LOG_INTERVAL:
            return False
        self._logged_at = now
        return True


class TextFormatter(logging.Formatter):
    """One line with the time, and the record's fields after the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._second, self._text = -1, ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Return the time of a record; the text of a second is made once for all its lines."""
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._text = time.strftime(self.default_time_format, self.converter(second))
        return f"{self._text},{int(record.msecs):03}"

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
        return _ENCODER.encode(line)


class LineHandler(logging.StreamHandler[TextIO]):
    """A handler that writes the lines of one turn of a loop at once.

    That holds within ``joining``, for lines of the loop's thread below a warning; any other line is
    written immediately, after those that wait. A process that is killed loses the lines of one turn
    at most.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._characters = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    @contextmanager
    def joining(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Join the lines of each turn of a loop, which runs in this thread."""
        self._loop, self._thread = loop, get_ident()
        try:
            yield
        finally:
            self._loop = None
            self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line, soon or now."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  # as logging's own handlers
            self.handleError(record)
            return
        size = len(line) + len(self.terminator)
        if self._characters + size > JOINED_CHARACTERS:
            self.flush()
        self._lines.append(line)
        self._characters += size
        may_wait = record.levelno < logging.WARNING and self._thread == get_ident()
        if self._loop is None or not may_wait:
            self.flush()
        elif len(self._lines) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits now."""
        self.acquire()
        try:
            lines, self._lines, self._characters = self._lines, [], 0
            with suppress(OSError, ValueError):  # nobody reads the stream any more
                if lines:
                    self.stream.write(self.terminator.join([*lines, ""]))
                super().flush()
        finally:
            self.release()


def configure(level: str, form: str) -> LineHandler:
    """Send all logs to standard error, as ``text`` or as ``json`` lines; return their handler."""
    _spare_records()
    handler = LineHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # pika reports each layer of a failed connection; the link logs each change of its state once
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    return handler


def _spare_records() -> None:
    """Leave out of each record what no line shows: by which thread, process and line of code.

    To find that takes longer than the rest of a record, and a system call.
    Source: https://docs.python.org/3/howto/logging.html#optimization
    """
    logging._srcfile = None  # noqa: SLF001  # as documented there
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


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
