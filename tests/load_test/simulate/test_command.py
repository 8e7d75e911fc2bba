"""The command ``python -m load_test simulate``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from load_test import cli

SMALL = ["simulate", "--jobs", "2000", "--periods", "0,1,7s"]


def test_it_prints_a_table_and_writes_the_same_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for each policy and period, after the floor; the same figures are in the file."""
    file = tmp_path / "figures.json"
    more = ["--policies", "least-loaded,round-robin", "--json", str(file)]
    assert cli.main([*SMALL, *more], {}) == cli.OK
    lines = capsys.readouterr().out.splitlines()
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--policies", "heaviest"], "no policy 'heaviest': one of least-loaded"),
        (["--utilisation", "1"], "utilisation must be above 0 and below 1, got 1"),
        (["--connectors", "3x0"], "each substation has a connector or more"),
        (["--connectors", "many"], "--connectors"),
        (["--session", "5-2"], "durations must be above 0, and rise"),
        (["--session", "long"], "--session"),
        (["--periods", "0,often"], "a period is a number, or one with an s: 'often'"),
        (["--outage", "9:1:2"], "no substation can be away so"),
        (["--outage", "soon"], "--outage"),
        (["--json", "/no/such/folder/x"], "there is no folder /no/such/folder"),
    ],
)
def test_wrong_usage_is_refused_with_its_value(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 2, and the last line says what is wrong."""
    try:
        status = cli.main([*SMALL, *options], {})
    except SystemExit as exit_:
        status = int(str(exit_.code))
    assert status == cli.USAGE
    assert words in capsys.readouterr().err


def test_every_option_reaches_the_simulation(capsys: pytest.CaptureFixture[str]) -> None:
    """Each changes the figures, or names the substations."""
    tables = set()
    base = ["simulate", "--jobs", "800", "--periods", "1"]
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
        ["--outage", "2:10:60"],
    ):
        assert cli.main([*base, *more], {}) == cli.OK
        tables.add(capsys.readouterr().out)
    assert len(tables) == 13
