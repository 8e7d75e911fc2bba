"""Logs: one line a record, with all its fields."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from grid import logs
from grid.logs import JsonFormatter, LineHandler, TextFormatter
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
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the process's logging afterwards."""
    root, pika = logging.getLogger(), logging.getLogger("pika")
    handlers, level, pika_level = root.handlers[:], root.level, pika.level
    root.handlers.clear()  # or they would be closed
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
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


def test_time_of_a_line_is_its_own_within_and_beyond_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The text of a second is kept for the lines in it, and for no other."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    formatter, made = TextFormatter(), record("said")
    found = []
    for created in (1_700_000_000.25, 1_700_000_000.75, 1_700_000_001.0, 1_700_000_000.5):
        made.created, made.msecs = created, created % 1 * 1000
        found.append(formatter.format(made)[: len("2023-11-14 22:13:20,250")])
    assert found == [
        "2023-11-14 22:13:20,250",
        "2023-11-14 22:13:20,750",
        "2023-11-14 22:13:21,000",
        "2023-11-14 22:13:20,500",
    ]


@pytest.mark.usefixtures("own_logging")
def test_record_has_nothing_that_no_line_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process's id is a system call a line; where a line comes from, a walk over the stack."""
    asked: list[object] = []
    monkeypatch.setattr(os, "getpid", lambda: asked.append("the process"))
    monkeypatch.setattr(logging, "currentframe", lambda: asked.append("the stack"))
    logs.configure("info", "text")
    logging.getLogger("test").info("shown")
    assert "test: shown" in capsys.readouterr().err
    assert asked == []


class Writes(io.StringIO):
    """A stream that keeps what is written each time."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, text: str) -> int:
        """Keep a piece of text."""
        self.written.append(text)
        return len(text)


def line_handler() -> tuple[Writes, LineHandler, logging.Logger]:
    """Return a handler with a stream, and a logger that has it alone."""
    writes = Writes()
    handler = LineHandler(writes)
    log = logging.Logger("test", logging.DEBUG)
    log.addHandler(handler)
    return writes, handler, log


async def test_lines_of_one_turn_of_the_loop_are_one_write() -> None:
    """At its end they are there, in their order; each write is a system call."""
    writes, handler, log = line_handler()
    with handler.joining(asyncio.get_running_loop()):
        for number in range(3):
            log.info("line %d", number)
        assert writes.written == []
        await asyncio.sleep(0)
        assert writes.written == ["line 0\nline 1\nline 2\n"]
        log.info("another turn")
        await asyncio.sleep(0)
        assert writes.written[1:] == ["another turn\n"]


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR, logging.CRITICAL])
async def test_warning_is_written_at_once_after_what_waits(level: int) -> None:
    """The service may end over it."""
    writes, handler, log = line_handler()
    with handler.joining(asyncio.get_running_loop()):
        log.info("before")
        log.log(level, "it breaks")
        assert writes.written == ["before\nit breaks\n"]
        await asyncio.sleep(0)
    assert len(writes.written) == 1


async def test_lines_outside_the_loop_are_written_at_once() -> None:
    """Before and after it, and in another thread, which must not use the loop."""
    writes, handler, log = line_handler()
    log.info("starting")
    assert writes.written == ["starting\n"]
    with handler.joining(asyncio.get_running_loop()):
        await asyncio.to_thread(log.info, "in a thread")
        assert writes.written[1:] == ["in a thread\n"]
        log.info("last")
    assert writes.written[2:] == ["last\n"]
    log.info("ended")
    assert writes.written[3:] == ["ended\n"]


async def test_lines_that_are_joined_are_bounded() -> None:
    """Else services that share a pipe would write into each other's lines."""
    writes, handler, log = line_handler()
    with handler.joining(asyncio.get_running_loop()):
        for _ in range(1_000):
            log.info("x" * 99)
    assert max(map(len, writes.written)) <= logs.JOINED_CHARACTERS
    assert len(writes.written) <= 1_000 * 100 / logs.JOINED_CHARACTERS + 2
    assert "".join(writes.written) == 1_000 * ("x" * 99 + "\n")


async def test_stream_that_nobody_reads_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback of the loop that raises would end the service."""
    writes, handler, log = line_handler()
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))

    def broken(_: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(writes, "write", broken)
    with handler.joining(asyncio.get_running_loop()):
        log.info("lost")
        await asyncio.sleep(0)
        log.warning("lost as well")
    assert raised == []


KILLED = """
import asyncio, logging, os, signal
from grid import logs

async def main():
    with handler.joining(asyncio.get_running_loop()):
        logging.info("first")
        await asyncio.sleep(0)
        logging.info("second")
        os.kill(os.getpid(), signal.SIGKILL)

handler = logs.configure("info", "json")
asyncio.run(main())
"""


def test_killed_process_loses_the_lines_of_one_turn_at_most() -> None:
    """Whoever looks for the reason finds all that was logged in the turns before."""
    command = [sys.executable, "-c", KILLED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    assert done.returncode == -signal.SIGKILL
    [line] = done.stderr.splitlines()
    assert json.loads(line)["message"] == "first"
