"""The command as it is used: a process, its output and its exit status."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from load_test import cli, exits
from tests.load_test.fake_api import HOST, FakeApi
from tests.ports import free_ports


async def command(*options: str, interrupt: bool = False) -> tuple[int, str, str]:
    """Run ``python -m load_test``; return its exit status and output.

    ``interrupt`` sends Ctrl-C once the first request's line is there.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "load_test",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # the child would inherit a test runner's ignored Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        first = await process.stdout.readline()
        if interrupt:
            process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, (first + out).decode(), err.decode()


async def test_load_test_prints_lines_bar_and_summary(tmp_path: Path) -> None:
    """Lines and summary go to stdout, the bar to stderr, the same figures to the file."""
    file = tmp_path / "run.json"
    async with FakeApi().serve() as fake:
        options = ("--url", fake.url, "-n", "20", "--rate", "200", "--json", str(file))
        status, out, err = await command(*options)
    assert status == exits.OK, err
    lines = out.splitlines()
    assert lines[:2] == [
        "[i] Substation Loads → [S1: 0.0, S2: 0.0, S3: 0.0]",
        "[i] Routed to: substation1",
    ]
    assert lines[40:42] == ["", "requests               20"]
    assert "20/20" in err
    figures = json.loads(file.read_text())
    assert (figures["completed"], figures["lost"]) == (20, 0)


async def test_load_test_exits_1_if_a_request_was_lost() -> None:
    """A script need not parse the table."""
    async with FakeApi(lose=(1,)).serve() as fake:
        options = ("--url", fake.url, "-n", "3", "--concurrency", "1", "-q", "--timeout", "0")
        status, out, _ = await command(*options)
    assert status == exits.FAILED
    assert "lost                   1" in out


async def test_load_test_reports_what_is_known_on_ctrl_c() -> None:
    """An interrupted run reports what came before, and exits with 130."""
    async with FakeApi().serve() as fake:
        status, out, err = await command("--url", fake.url, "--rate", "10", interrupt=True)
    assert status == exits.INTERRUPTED, err
    assert "requests               100" in out
    assert "lost                   0" in out
    assert "unanswered" in out
    assert "Traceback" not in err


async def test_load_test_writes_a_partial_report_on_ctrl_c(tmp_path: Path) -> None:
    """The page and the JSON are there, and say that the run was interrupted."""
    folder = tmp_path / "new" / "report"
    async with FakeApi().serve() as fake:
        options = ("--url", fake.url, "--rate", "10", "--report", str(folder))
        status, _, err = await command(*options, interrupt=True)
    assert status == exits.INTERRUPTED, err
    assert f"the report is in {folder}/report.html" in err
    assert "Interrupted: a partial run." in (folder / "report.html").read_text()
    run = json.loads((folder / "run.json").read_text())
    assert run["interrupted"] is True
    assert len(run["answers"]) == 100


async def test_load_test_reports_an_unreachable_api_at_once() -> None:
    """If nothing listens, one line says so and names the address."""
    (port,) = free_ports(1)
    status, out, err = await command("--url", f"http://{HOST}:{port}")
    assert (status, out) == (exits.FAILED, "")
    assert f"no answer from http://{HOST}:{port}" in err
    assert "Traceback" not in err


async def test_load_test_no_wait_sends_prefer_respond_async() -> None:
    """With --no-wait every request prefers the early answer, without it none does."""
    async with FakeApi().serve() as fake:
        run = ("--url", fake.url, "-n", "1", "--concurrency", "1", "-q")
        await command(*run)
        await command(*run, "--no-wait")
    assert [post["prefer"] for post in fake.posts] == [None, "respond-async"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["-n", "0"], "requests must be at least 1, got 0"),
        (["-n", "many"], "invalid int value: 'many'"),
        (["--rate", "1", "--concurrency", "1"], "not allowed with argument"),
        (["--rate", "-1"], "rate must be above 0 a second, got -1"),
        (["--timeout", "-1"], "timeout must not be negative, got -1"),
        (["--timeout", "nan"], "timeout must not be negative, got nan"),
        (["--json", "/nowhere/run.json"], "there is no folder /nowhere"),
        (["--report", "/proc/none/report"], "--report /proc/none/report: "),
        (["simulate-it"], "unrecognized arguments: simulate-it"),
        (["--schedule", "flood"], "invalid choice: 'flood'"),
        (["--schedule", "spike", "-n", "5"], "--requests is not for the schedule spike"),
        (["--peak-rate", "9"], "--peak-rate is not for the schedule steady"),
        (["--schedule", "spike", "--seconds", "9"], "must end after the spike: spike_at 20 s"),
        (["--schedule", "steady", "--poisson"], "--poisson is not for the schedule steady"),
        (["--poisson", "--concurrency", "3"], "Poisson arrivals need a rate"),
        (["--file", "/nowhere/run.yaml"], "/nowhere/run.yaml"),
        (["--file", "run.yaml", "--rate", "3"], "--file run.yaml says what is sent"),
    ],
)
def test_load_test_exits_2_on_wrong_usage(
    options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage exits with 2 and names what is wrong."""
    with pytest.raises(SystemExit) as stop:
        cli.main(options, {})
    assert stop.value.code == exits.USAGE
    assert problem in capsys.readouterr().err


def test_load_test_help_shows_defaults_examples_and_exit_statuses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """--help is enough to use it, and shows the address that the environment gives."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"], {"API_URL": "http://example.test:7001"})
    shown = capsys.readouterr().out
    assert stop.value.code == exits.OK
    for part in ("examples:", "exit status:", "http://example.test:7001", "default 100"):
        assert part in shown


async def test_load_test_carries_out_a_file(tmp_path: Path) -> None:
    """Schedule and vehicles are the file's; departures are sent as times with an offset."""
    file = tmp_path / "run.yaml"
    file.write_text(
        "schedule: {kind: spike, rate: 5, spike_rate: 100, spike_at: 0.2, spike_seconds: 0.1, "
        "seconds: 0.5, spacing: even}\n"
        "speed: 60\n"
        "vehicles: [{name: bus, power_kw: 150, stay_minutes: 60, priority: 3, reserve: true,"
        " begins_after_minutes: 30}]\n"
    )
    async with FakeApi().serve() as fake:
        status, out, err = await command("--url", fake.url, "--file", str(file), "-q")
    assert status == exits.OK, err
    assert "requests               12" in out
    bodies = [post["body"] for post in fake.posts]
    assert {(body["requested_power_kw"], body["priority"]) for body in bodies} == {(150, 3)}
    leaves = [datetime.fromisoformat(body["departure_time"]).timestamp() for body in bodies]
    assert all(50 < leaving - time.time() < 61 for leaving in leaves)
    begin = [datetime.fromisoformat(body["earliest_start"]).timestamp() for body in bodies]
    assert [leaving - at for leaving, at in zip(leaves, begin, strict=True)] == pytest.approx(
        [30] * len(bodies), abs=0.01
    )
    assert all(body["reserve"] is True for body in bodies)
    assert max(leaves) - min(leaves) == pytest.approx(0.4, abs=0.11)


def test_load_test_names_a_wrong_variable(capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid variable is named, with its value."""
    (port,) = free_ports(1)
    options = ["--via", "amqp", "--url", f"http://{HOST}:{port}"]
    assert cli.main(options, {"AMQP_URL": "http://x"}) == exits.USAGE
    assert "AMQP_URL" in capsys.readouterr().err


async def test_load_test_sends_the_api_key_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is in the file that a variable names, so that no list of processes shows it."""
    file = tmp_path / "key"
    file.write_text("the-key\n")
    monkeypatch.setenv("API_KEY_FILE", str(file))
    async with FakeApi().serve() as fake:
        status, _, err = await command("--url", fake.url, "-n", "2", "--rate", "200", "--quiet")
    assert status == exits.OK, err
    assert fake.keys == ["Bearer the-key"] * 2


@pytest.mark.parametrize(
    ("name", "not_needed"),
    [
        ("compare", {"aiohttp", "numpy", "pika"}),
        ("simulate", {"aiohttp", "pika"}),
        ("flood", {"aiohttp", "pika"}),
        ("run", {"numpy", "scipy"}),
    ],
)
def test_command_imports_nothing_that_only_others_need(name: str, not_needed: set[str]) -> None:
    """Importing everything would take half a second."""
    ask = f"import sys; from load_test.cli import main; main([{name!r}, '--help'], {{}})"
    leave = "finally: sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"import sys\ntry: exec({ask!r})\n{leave}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("usage: python -m load_test")
    assert not_needed.isdisjoint(done.stderr.split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each name leads to its own command."""
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"], {})
    assert ended.value.code == exits.OK
    own = "" if name == cli.SEND else f" {name}"
    assert capsys.readouterr().out.startswith(f"usage: python -m load_test{own} [-h]")
