"""The command ``python -m load_test replay`` against a scripted api."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from load_test import cli, exits
from tests.load_test.fake_api import FakeApi
from tests.load_test.replay.test_sessions import SUSTAINGYM
from tests.load_test.test_cli import command


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write a table of two sessions, gzipped."""
    file = tmp_path / "sessions.csv.gz"
    file.write_bytes(gzip.compress(SUSTAINGYM.encode()))
    return file


async def test_replay_sends_each_session_once_and_follows_it_to_its_end(table: Path) -> None:
    """The second comes an hour later, which is 0.1 s, and leaves after two hours."""
    async with FakeApi().serve() as fake:
        options = ("--speed", "36000", "--url", fake.url)
        status, out, err = await command("replay", str(table), *options)
    assert status == exits.OK, err
    assert "2 sessions of 0.0 days, replayed within 100.0 ms" in err
    assert "the substations need CHARGE_SPEED=36000" in err
    assert "requests               2" in out
    assert "demands met            100.0 %, energy delivered 100.0 %, fairness 1.000" in out
    assert "possible at most       100.0 %, energy delivered 100.0 %, in hindsight" in out
    bodies = [post["body"] for post in fake.posts]
    assert [body["vehicle_id"] for body in bodies] == ["1_39", "2_39"]
    first, second = (datetime.fromisoformat(body["departure_time"]) for body in bodies)
    assert (second - first).total_seconds() == pytest.approx(0.2, abs=0.001)


async def test_replay_sends_what_arrived_in_a_time(table: Path) -> None:
    """A day of many, or the first sessions of it."""
    async with FakeApi().serve() as fake:
        for more in (("--from", "2019-05-01T16:30Z"), ("--until", "2019-05-01T16:30Z")):
            await command("replay", str(table), "--url", fake.url, "-q", *more)
        await command("replay", str(table), "--url", fake.url, "-q", "-n", "1")
    sent = [post["body"]["vehicle_id"] for post in fake.posts]
    assert sent == ["2_39", "1_39", "1_39"]


def test_replay_in_virtual_time_needs_no_system(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sessions of an hour, the second an hour after the first: one connector is enough."""
    file = tmp_path / "figures.json"
    options = ["--virtual", "1x1", "--policies", "least-loaded,random", "--json", str(file)]
    assert cli.main(["replay", str(table), *options], {}) == exits.OK
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["floor", "least-loaded", "random"]
    assert ["demands", "met", *["100.0", "%"] * 3] in lines
    floor, least_loaded, _ = json.loads(file.read_text())["columns"]
    assert floor["figures"]["mean_wait"] == least_loaded["figures"]["mean_wait"] == 0
    assert least_loaded["shares"] == {"substation1": 1}
    assert cli.main(["replay", str(table), "--virtual", "1x1", "--stretch", "0.5"], {}) == exits.OK
    shown = " ".join(capsys.readouterr().out.split())
    assert "longest wait 500.0 ms 500.0 ms" in shown  # for half an hour
    assert "possible at most: demands met 100.0 %, energy delivered 100.0 %" in shown


def test_replay_compares_orders_beside_the_bound(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At each utilisation: the bound, then each order; the same is in the file."""
    file = tmp_path / "figures.json"
    options = ["--virtual", "1x1", "--utilisation", "0.5,2", "--order", "deadline,fifo"]
    assert cli.main(["replay", str(table), *options, "--json", str(file)], {}) == exits.OK
    *lines, how = capsys.readouterr().out.splitlines()
    words = [line.split() for line in lines]
    assert words[0][:2] == ["utilisation", "order"]
    assert [line[0] for line in words[1:]] == ["0.5", "deadline", "fifo", "2", "deadline", "fifo"]
    assert how.startswith("at most: upper bound in hindsight, by linear programming")
    assert how.endswith("slots of 30 min")
    rows = json.loads(file.read_text())["rows"]
    assert [each["order"] for each in rows] == ["at most", "deadline", "fifo"] * 2
    assert all(each["demands_met"] == each["energy_delivered"] == 1 for each in rows[:3])


def test_replay_compares_orders_without_a_bound(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All orders, with the arrivals as they were."""
    options = ["--virtual", "1x1", "--order", "fifo,laxity", "--slot", "0"]
    assert cli.main(["replay", str(table), *options], {}) == exits.OK
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[:3] == ["2", "fifo", "100.0"]
    assert second.split()[0] == "laxity"


def test_replay_without_scipy_leaves_out_only_the_bound(table: Path) -> None:
    """The error says what to install, or to leave out; the orders are compared without it."""
    hide = "import sys; sys.modules['scipy.optimize'] = None; from load_test.cli import main; "
    for more, status, words in (
        ([], exits.USAGE, "needs scipy: pip install scipy, or --slot 0 to leave it out"),
        (["--slot", "0"], exits.OK, ""),
    ):
        run = subprocess.run(  # noqa: S603
            [
                sys.executable, "-c", f"{hide}sys.exit(main(sys.argv[1:], {{}}))",
                "replay", str(table), "--virtual", "1x1", "--order", "fifo", *more,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )  # fmt: skip
        assert run.returncode == status, run.stderr
        assert words in run.stderr
        assert bool(run.stdout) == (status == exits.OK)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "the following arguments are required: FILE"),
        (["/nowhere.csv"], "/nowhere.csv: it cannot be read"),
        (["TABLE", "--speed", "0"], "speed must be above 0, got 0"),
        (["TABLE", "--columns", "arrival"], "must be WHAT=NAME"),
        (["TABLE", "--columns", "arrival=x"], "it has no column 'x'"),
        (["TABLE", "--from", "soon"], "must be a date, or a time like"),
        (["TABLE", "--from", "2020-01-01"], "it has no session that takes any energy"),
        (["TABLE", "--virtual", "many"], "argument --virtual"),
        (["TABLE", "--virtual", "1x1", "--policies", "best"], "no policy 'best'"),
        (
            ["TABLE", "--virtual", "1x1", "--order", "lifo"],
            "no order 'lifo': one of deadline, fifo",
        ),
        (["TABLE", "--virtual", "1x1", "--utilisation", "0"], "must be numbers above 0 like 0.9"),
        (["TABLE", "--virtual", "1x1", "--slot", "-1"], "--slot must be 0 minutes or more, got -1"),
        (["TABLE", "--order", "fifo"], "--order and --utilisation need --virtual"),
        (["TABLE", "-n", "0"], "--sessions must be at least 1, got 0"),
        (["TABLE", "--timeout", "-1"], "timeout must not be negative"),
    ],
)
def test_replay_exits_2_on_wrong_usage(
    options: list[str], problem: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is sent, and the last line says what is wrong."""
    named = [str(table) if each == "TABLE" else each for each in options]
    with pytest.raises(SystemExit) as stop:
        cli.main(["replay", *named], {})
    assert stop.value.code == exits.USAGE
    assert problem in capsys.readouterr().err
