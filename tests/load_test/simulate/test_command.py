"""The command ``python -m load_test simulate``."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from load_test import cli, exits

SMALL = ["simulate", "--jobs", "500", "--periods", "0,1,7s"]


def test_simulate_prints_a_table_and_writes_the_same_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for each policy and period, after the floor; the same figures are in the file."""
    file = tmp_path / "figures.json"
    more = ["--policies", "least-loaded,round-robin", "--nobody-ahead", "--json", str(file)]
    assert cli.main([*SMALL, *more], {}) == exits.OK
    about, *lines = capsys.readouterr().out.splitlines()
    assert about == (
        "500 jobs, 8 connectors at 8 substations, utilisation 0.9, mean session 3.50 s, seed 0"
    )
    assert " ".join(lines[0].split()) == "policy T mean wait p99 wait ÷ floor misroutes spread"
    assert [line.split()[0] for line in lines[1:]] == [
        "floor", *["least-loaded"] * 3, *["round-robin"] * 3,
    ]  # fmt: skip
    found = json.loads(file.read_text())
    assert [(each["policy"], each["period"]) for each in found["runs"][:3]] == [
        ("least-loaded", 0), ("least-loaded", 1), ("least-loaded", 2),
    ]  # fmt: skip
    assert found["runs"][0]["mean_wait"] == pytest.approx(found["floor"]["mean_wait"])
    assert found["runs"][0]["ratio"] == pytest.approx(1)


def test_simulate_json_contains_its_inputs(tmp_path: Path) -> None:
    """Seed, substations and demand are there, so that the run can be repeated."""
    file = tmp_path / "figures.json"
    more = ["--outage", "2:10:60", "--outage", "1:70:80", "--seed", "7", "--session", "2-5"]
    assert cli.main([*SMALL, *more, "--connectors", "3x2", "--json", str(file)], {}) == exits.OK
    found = json.loads(file.read_text())
    assert found["seed"] == 7
    assert found["setting"] == {
        "connectors": [2, 2, 2],
        "event_latency": 0.01,
        "page_latency": 0.0,
        "counters": True,
        "waits": True,
        "send_ahead": True,
        "in_step": False,
        "power": False,
        "outages": [
            {"substation": 2, "at": 10, "back": 60},
            {"substation": 1, "at": 70, "back": 80},
        ],
    }
    assert found["demand"] == {
        "jobs": 500,
        "utilisation": 0.9,
        "durations": {"low": 2, "high": 5},
        "burst": 1,
        "session_seconds": 3.5,
    }


def table(tmp_path: Path) -> Path:
    """Write a table of sessions: 50 that come every 10 s, and take 10 and 20 s in turn."""
    rows = [f"{1000 + 10 * number},{10 + 10 * (number % 2)}\n" for number in range(50)]
    file = tmp_path / "table.csv.gz"
    file.write_bytes(gzip.compress(("arrival_seconds,duration_seconds\n" + "".join(rows)).encode()))
    return file


def test_simulate_takes_jobs_from_a_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """T and waits are in its own mean session times; a utilisation stretches it, jobs cut it."""
    trace, file = str(table(tmp_path)), tmp_path / "figures.json"
    base = ["simulate", "--connectors", "2x1", "--trace", trace, "--json", str(file)]
    options = [*base, "--periods", "0,1,30s", "--policies", "least-loaded"]
    assert cli.main(options, {}) == exits.OK
    about = "50 jobs, 2 connectors at 2 substations, utilisation 0.765, mean session 15.00 s, seed"
    assert capsys.readouterr().out.startswith(about)
    found = json.loads(file.read_text())
    assert [each["period"] for each in found["runs"]] == [0, 1, 2]
    assert found["floor"]["mean_wait"] == 0
    assert found["demand"] == {
        "jobs": 50,
        "utilisation": pytest.approx(750 / 980),
        "session_seconds": 15,
        "trace": trace,
        "power_kw": 7.4,
    }
    assert cli.main([*options, "--utilisation", "0.95", "--jobs", "41"], {}) == exits.OK
    found = json.loads(file.read_text())
    assert (found["demand"]["jobs"], found["demand"]["utilisation"]) == (41, 0.95)
    assert found["floor"]["mean_wait"] > 0


def test_simulate_charges_a_trace_of_energies_at_the_power(tmp_path: Path) -> None:
    """Half the power makes sessions of twice the length; a plain file is read as a gzipped one."""
    trace, file = tmp_path / "acn.csv", tmp_path / "figures.json"
    stay = "2019-05-01 08:00:00-07:00,2019-05-01 18:00:00-07:00"
    trace.write_text(f"arrival,departure,delivered_energy (kWh)\n{stay},14.8\n", "utf-8-sig")
    base = ["simulate", "--trace", str(trace), "--periods", "0", "--json", str(file)]
    sessions = []
    for more in ([], ["--power", "3.7"]):
        assert cli.main([*base, *more], {}) == exits.OK
        sessions.append(json.loads(file.read_text())["demand"]["session_seconds"])
    assert sessions == pytest.approx([7200, 14400])


def stays(tmp_path: Path) -> Path:
    """Write a table of stays: a session of an hour every quarter, of vehicles that stay for two."""
    rows = [
        f"2019-05-{1 + number // 24:02}T{number % 24:02}:{quarter:02},"
        f"2019-05-{1 + (number + 2) // 24:02}T{(number + 2) % 24:02}:{quarter:02},7.4\n"
        for number in range(20)
        for quarter in (0, 15, 30, 45)
    ]
    file = tmp_path / "stays.csv"
    file.write_text("arrival,departure,delivered_energy (kWh)\n" + "".join(rows))
    return file


def test_simulate_lets_vehicles_leave_beside_the_best_possible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four come in an hour, and three can charge: the bound says that three of four can be met."""
    file = tmp_path / "figures.json"
    options = ["--trace", str(stays(tmp_path)), "--connectors", "1x3", "--periods", "0"]
    more = ["--policies", "least-loaded,random", "--departures", "--json", str(file)]
    met = {}
    for order in ("fifo", "deadline"):
        command = ["simulate", *options, *more, "--order", order, "--utilisation", "1.333"]
        assert cli.main(command, {}) == exits.OK
        _, head, least, most, ours, _ = capsys.readouterr().out.splitlines()
        assert head.split()[-4:] == ["met", "energy", "fairness", "longest"]
        assert least.startswith("floor")
        assert most.split()[:2] == ["at", "most"]
        found = json.loads(file.read_text())
        run = found["runs"][0]
        assert f"{100 * run['demands_met']:.1f} %" in ours
        assert run["demands_met"] <= run["energy_delivered"] <= found["most"]["energy_delivered"]
        assert run["longest_wait"] <= 2 + 1e-9
        met[order] = run["demands_met"]
    assert 0.75 < found["most"]["demands_met"] < 0.82
    assert met["fifo"] < met["deadline"] <= found["most"]["demands_met"]


def test_simulate_without_departures_meets_every_demand(tmp_path: Path) -> None:
    """Nobody leaves; how long the longest wait is, is in the file."""
    file = tmp_path / "figures.json"
    assert cli.main([*SMALL, "--policies", "least-loaded", "--json", str(file)], {}) == exits.OK
    found = json.loads(file.read_text())
    for run in found["runs"]:
        assert run["demands_met"] == 1
        assert run["energy_delivered"] == pytest.approx(1)
        assert run["fairness"] == pytest.approx(1)
        assert run["longest_wait"] >= run["p99_wait"]
    assert "most" not in found


def test_simulate_writes_a_png(tmp_path: Path) -> None:
    """The file of --png is one."""
    file = tmp_path / "figure.png"
    assert cli.main([*SMALL, "--policies", "random", "--png", str(file)], {}) == exits.OK
    assert file.read_bytes().startswith(b"\x89PNG\r\n")


def test_simulate_without_matplotlib_refuses_only_the_png(tmp_path: Path) -> None:
    """The error says what to install, before anything is simulated; the table needs none."""
    small = [*SMALL, "--policies", "random"]
    hide = "import sys; sys.modules['matplotlib'] = None; from load_test.cli import main; "
    for more, status, words in (
        (["--png", str(tmp_path / "x.png")], exits.USAGE, "--png needs matplotlib: pip install"),
        ([], exits.OK, ""),
    ):
        run = subprocess.run(  # noqa: S603
            [
                sys.executable,
                "-c",
                f"{hide}sys.exit(main(sys.argv[1:], {{}}))",
                *small,
                *more,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert run.returncode == status, run.stderr
        assert words in run.stderr
        assert bool(run.stdout) == (status == exits.OK)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"arrival_seconds,duration_seconds\n1,long\n", "table: line 2: duration_seconds must be"),
        (b"\xff", "table: it cannot be read: "),
        (b"\x1f\x8bnot", "table: it cannot be read: "),
        (gzip.compress(b"arrival" * 99, mtime=0)[:-9], "table: it cannot be read: "),
        (None, "table: it cannot be read: "),
    ],
)
def test_simulate_names_a_wrong_trace_file(
    content: bytes | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with a file, it is named, and there is no traceback."""
    file = tmp_path / "table"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        cli.main(["simulate", "--trace", str(file)], {})
    assert stop.value.code == exits.USAGE
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--policies", "heaviest"], "no policy 'heaviest': one of least-loaded"),
        (["--utilisation", "1"], "utilisation must be above 0 and below 1, got 1"),
        (["--connectors", "3x0"], "each substation has a connector or more"),
        (["--connectors", "many"], "--connectors"),
        (["--session", "5-2"], "durations must be above 0, and rise"),
        (["--session", "long"], "--session"),
        (
            ["--periods", "0,often"],
            "a period must be a number of session times, or seconds as in 2s, got 'often'",
        ),
        (["--outage", "9:1:2"], "an outage needs a known substation"),
        (["--outage", "soon"], "--outage"),
        (["--outage", "1:1:5", "--outage", "1:4:9"], "must be over before the next"),
        (["--json", "/no/such/folder/x"], "there is no folder /no/such/folder"),
        (["--png", "/no/such/folder/x"], "there is no folder /no/such/folder to write --png to"),
        (["--power", "11"], "--power needs a --trace"),
        (["--departures"], "--departures needs a --trace that says when vehicles leave"),
        (["--trace", "x", "--session", "3"], "--session is for random jobs"),
        (["--trace", "x", "--burst", "2"], "--burst is for random jobs"),
    ],
)
def test_simulate_exits_2_on_wrong_usage(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 2, and the last line says what is wrong."""
    try:
        status = cli.main([*SMALL, *options], {})
    except SystemExit as exit_:
        status = int(str(exit_.code))
    assert status == exits.USAGE
    assert words in capsys.readouterr().err


def test_simulate_applies_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """Each changes the figures, or names the substations."""
    tables = set()
    base = ["simulate", "--jobs", "200", "--periods", "1"]
    for more in (
        [],
        ["--seed", "1"],
        ["--burst", "4"],
        ["--session", "2-5"],
        ["--utilisation", "0.8"],
        ["--connectors", "2,4,8"],
        ["--connectors", "2x8"],
        ["--in-step"],
        ["--page-latency", "1"],
        ["--event-latency", "1"],
        ["--no-events"],
        ["--send-at-once"],
        ["--nobody-ahead"],
        ["--outage", "2:10:60"],
        ["--outage", "2:10:60", "--outage", "3:10:60"],
    ):
        assert cli.main([*base, *more], {}) == exits.OK
        about, figures = capsys.readouterr().out.split("\n", 1)
        assert about.startswith("200 jobs, ")
        tables.add(figures)
    assert len(tables) == 15
