"""Logs: one line a record, with all its fields."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from grid import logs
from grid.logs import JsonFormatter, TextFormatter
from grid.trace import Trace

TRACE = Trace("a" * 32, "b" * 16, "c" * 16, flags=1)


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    """Return a log record of a fixed time."""
    info = (type(error), error, error.__traceback__) if error is not None else None
    made = logging.LogRecord("grid.test", logging.WARNING, "file", 1, message, args, info)
    made.created = 1_700_000_000.25
    return made


def test_json_log_record_is_one_line() -> None:
    """A log collector gets every record whole, whatever the message holds."""
    line = JsonFormatter().format(record('%s said "no"\n%s', "Ä", "\x00"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "warning",
        "logger": "grid.test",
        "message": 'Ä said "no"\n\x00',
    }


def test_json_log_record_contains_the_traceback() -> None:
    """The traceback is part of the JSON object, not lines between objects."""
    try:
        raise ValueError("broken")
    except ValueError as error:
        line = JsonFormatter().format(record("failed", error=error))
    assert "\n" not in line
    assert json.loads(line)["error"].endswith("ValueError: broken")


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Restore the process's logging afterwards."""
    root, pika = logging.getLogger(), logging.getLogger("pika")
    handlers, level, pika_level = root.handlers[:], root.level, pika.level
    root.handlers.clear()  # or they would be closed
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    pika.setLevel(pika_level)


@pytest.mark.usefixtures("own_logging")
def test_logs_go_to_stderr_in_the_configured_format(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One setting turns all logs into JSON; below the level, and from pika's layers, nothing."""
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    logs.configure("warning", "json")
    logging.getLogger("test").warning("shown")
    logging.getLogger("test").info("not shown")
    logging.getLogger("pika.adapters").error("not shown")
    logs.configure("info", "text")
    logging.getLogger("test").info("now shown")
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    assert json.loads(first)["message"] == "shown"
    assert second.endswith("INFO    test: now shown")


def logged(trace: Trace, level: int, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Log that a job was sent, and return the records."""
    with caplog.at_level(level):
        logs.tell(logging.getLogger("test"), "job1", trace, "sent", substation="s1")
    return caplog.records


def test_job_log_record_has_job_id_and_trace_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As fields of the JSON object, and at the end of a line of text."""
    [record] = logged(TRACE, logging.INFO, caplog)
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "sent"
    assert (line["job"], line["substation"]) == ("job1", "s1")
    assert (line["trace_id"], line["span_id"], line["parent_id"]) == ("a" * 32, "b" * 16, "c" * 16)
    text = TextFormatter().format(record)
    ids = f"trace_id={'a' * 32} span_id={'b' * 16} parent_id={'c' * 16}"
    assert text.endswith(f"test: sent job=job1 {ids} substation=s1")


def test_job_log_record_is_info_only_if_the_trace_is_sampled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There are too many jobs: at level debug each has a line, at info only if its caller asks."""
    other = Trace("a" * 32, "b" * 16)
    assert logged(other, logging.INFO, caplog) == []
    [record] = logged(other, logging.DEBUG, caplog)
    assert record.levelname == "DEBUG"
