"""What `make logs` shows: the lines of which level, of whatever program."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import commands, logs
from deploy.local import __main__ as local
from deploy.stack import ROOT
from grid.errors import ConfigurationError
from grid.logs import JsonFormatter, TextFormatter

KINDS = {
    "2026-11-29 16:48:28,311 WARNING api: RabbitMQ link api-requests: cannot connect": "warning",
    "2026-11-29 16:48:28,311 INFO    api: an error=none": "info",
    "2026-11-29 16:48:20,877 CRIT Server 'unix_http_server' running": "error",
    "2026-11-29 16:48:39.653405+00:00 [warning] <0.767.0> Message store": "warning",
    "2026-11-29 16:48:31.905495+00:00 [notice] <0.44.0> [error] is in its text": "info",
    "2026-11-29 16:48:31.905495+00:00 [error] <0.44.0> ": "error",
    'ts=2026-11-29T16:48:21.305Z caller=main.go:513 level=warn msg="level=info"': "warning",
    'time=2026-11-29T16:48:21.305Z level=ERROR source=main.go:1 msg="x"': "error",
    "logger=settings t=2026-11-29T16:48:21.3Z level=info msg=x": "info",
    '{"time": "2026-11-29T16:48:21.305+00:00", "level": "debug", "message": "error"}': "debug",
    "Traceback (most recent call last):": "error",
}


@pytest.mark.parametrize("line", KINDS)
def test_level_is_read_from_the_lines_of_every_program(line: str) -> None:
    """Ours, the supervisor's, RabbitMQ's, Prometheus's and Grafana's."""
    assert logs.level_of(line) == logs.LEVELS.index(KINDS[line])


@pytest.mark.parametrize("level", logs.LEVELS)
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_level_is_read_from_what_the_services_write(
    formatter: logging.Formatter, level: str
) -> None:
    record = logging.LogRecord("a", getattr(logging, level.upper()), "", 1, "text", (), None)
    assert logs.level_of(formatter.format(record)) == logs.LEVELS.index(level)


@pytest.mark.parametrize("line", ["", "  File 'x', line 1", "ValueError: [error]", "warning: x"])
def test_further_lines_of_a_message_have_no_level(line: str) -> None:
    assert logs.level_of(line) is None


def test_level_filter_shows_further_lines_with_their_first() -> None:
    """Of each source, whatever others write in between."""
    shown = logs.LevelFilter(logs.level_named("WARNING"))
    lines = [
        ("api", "2026-11-29 16:48:28,311 ERROR api: POST failed", True),
        ("rabbitmq", "2026-11-29 16:48:31.9+00:00 [info] <0.1.0> x", False),
        ("api", "ValueError: of this", True),
        ("rabbitmq", "  more of it", False),
        ("api", "2026-11-29 16:48:28,311 INFO    api: on", False),
        ("api", "  and on", False),
        ("epmd", "of no level at all", False),
    ]
    assert [shown.shows(source, line) for source, line, _ in lines] == [each for *_, each in lines]


def test_follow_yields_whole_lines_of_several_commands() -> None:
    """Also a last line without an end, and bytes that are no text."""
    program = "import sys; sys.stdout.buffer.write(b'one\\ntw'); sys.stdout.flush(); {}"
    write = "sys.stdout.buffer.write(b'o \\xff\\nthree')"
    command = [sys.executable, "-c", program.format(write)]
    found = list(logs.follow({"a": command, "b": command}))
    for name in ("a", "b"):
        assert [line for each, line in found if each == name] == ["one", "two �", "three"]


def test_follow_ends_its_commands_when_it_is_closed() -> None:
    lines = logs.follow({"a": ["sh", "-c", "echo first; exec sleep 600"]})
    assert next(lines) == ("a", "first")
    assert isinstance(lines, Iterator)
    lines.close()  # type: ignore[attr-defined]  # waits for the command


def test_logs_end_with_what_they_follow_on_sigterm(tmp_path: Path) -> None:
    """As on Ctrl-C, which all of them get: `kill` reaches only the one that shows the lines."""
    child = tmp_path / "child"
    program = (
        "import sys; from deploy import commands, logs; "
        f"follow = {{'a': ['sh', '-c', 'echo $$ >{child}; echo first; exec sleep 600']}}; "
        "sys.exit(commands.show_logs({}, lambda _: logs.follow(follow)))"
    )
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as shows:
        assert shows.stdout is not None
        assert shows.stdout.readline() == "a              | first\n"
        shows.terminate()
        assert shows.wait(20) == 0
    assert not Path(f"/proc/{child.read_text().strip()}").exists()


def test_wrong_level_and_service_are_named() -> None:
    with pytest.raises(ConfigurationError, match="LEVEL=loud: must be debug, info, warning or er"):
        commands.show_logs({"LEVEL": "loud"}, lambda _: [])
    with pytest.raises(ConfigurationError, match=r"FOLLOW=no: must be 1 .* or 0 "):
        commands.show_logs({"FOLLOW": "no"}, lambda _: [])
    with pytest.raises(ConfigurationError, match="SERVICE=foo: must be of api, rabbitmq"):
        commands.services_named({"SERVICE": "api foo"}, ["rabbitmq", "api"])
    with pytest.raises(ConfigurationError, match=r"names what to restart.* api, rabbitmq"):
        commands.services_to_restart({"SERVICE": " "}, ["rabbitmq", "api"])
    assert commands.services_named({"SERVICE": "api,b  api"}, ["api", "b"]) == ["api", "b"]


def test_logs_look_further_back_for_lines_of_a_level(capsys: pytest.CaptureFixture[str]) -> None:
    """Among the last few lines there may be no warning."""
    asked: list[int] = []

    def follow(lines: int) -> list[tuple[str, str]]:
        asked.append(lines)
        return [("api", line) for line in KINDS]

    assert commands.show_logs({}, follow) == 0
    assert capsys.readouterr().out.count("\n") == len(KINDS)
    assert commands.show_logs({"LEVEL": "error"}, follow) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [f"api            | {line}" for line, kind in KINDS.items() if kind == "error"]
    assert asked == [logs.LINES, logs.FILTERED_LINES]


def test_logs_that_do_not_follow_end_with_the_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the runbook's commands do: they return."""
    (tmp_path / "api.log").write_text("".join(f"line {number}\n" for number in range(60)))
    monkeypatch.setattr(local, "LOGS", tmp_path)
    monkeypatch.setenv("FOLLOW", "0")
    assert local.logs() == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [f"api            | line {number}" for number in range(10, 60)]
