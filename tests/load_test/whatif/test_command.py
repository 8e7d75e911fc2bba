"""The command ``python -m load_test whatif``: its sources, its table and its errors."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api import csv_export
from grid.events import State
from load_test import cli, exits
from load_test.records import Answer, Job, Substation
from load_test.report.write import write
from load_test.summary import Run, summarise
from load_test.whatif import export
from tests.load_test.fake_api import FakeApi
from tests.load_test.test_cli import command
from tests.load_test.whatif.recordings import SITES, recorded, requests

JOBS = recorded(requests(200, 5.0, seed=4, departures=True))


def as_csv(jobs: Sequence[Job]) -> str:
    """Write jobs as the api exports them."""
    text = io.StringIO()
    table = csv.DictWriter(text, csv_export.COLUMNS)
    table.writeheader()
    for job in jobs:
        times = {State.QUEUED: job.queued, State.ASSIGNED: job.assigned,
                 State.CHARGING: job.charging, job.status: job.ended}  # fmt: skip
        table.writerow(
            {
                "id": job.id,
                "status": job.status,
                "substation": job.substation,
                "duplicates": job.duplicates,
                "requested_energy_kwh": job.requested_kwh,
                "requested_power_kw": job.power_kw,
                "departure_time": _time(job.departs),
                "priority": job.priority,
                "eligible_substations": " ".join(job.eligible),
                **{state: _time(at) for state, at in times.items()},
            }
        )
    return text.getvalue()


def _time(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat()


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """Write the JSON of a run, as --report does."""
    sites = [
        Substation(each.name, each.connectors, eligible=True, rated_power_kw=each.rated_power_kw,
                   background_power_kw=each.background_power_kw, limit=each.limit)
        for each in SITES
    ]  # fmt: skip
    run = Run(
        [Answer(each.id, 0.0) for each in JOBS],
        {each.id: each for each in JOBS},
        {each.id: each.connectors or 0.0 for each in sites},
        1.0,
        1.0,
        capacity=20,
        substations=sites,
    )
    write(tmp_path, run, summarise(run), argv=[], plan={}, speed=1.0)
    return tmp_path / "run.json"


def test_whatif_shows_what_would_have_happened_beside_what_did(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One column for each, a line for each figure, and how far the replay can be trusted."""
    file = tmp_path / "figures.json"
    options = ["--policies", "least-loaded,round-robin", "--json", str(file), "--check", "5"]
    assert cli.main(["whatif", str(run_file), *options], {}) == exits.OK
    shown = capsys.readouterr().out
    assert shown.startswith("200 jobs; latencies: request 4.0 ms, dispatch 3.0 ms, event ")
    assert "as it was: north 4, 60 kW; south 6; west 10, limit 8" in shown
    lines = {" ".join(line.split()) for line in shown.splitlines()}
    assert "did happen as it was round-robin" in lines
    for label in ("mean wait", "demands met", "load of north", "wait, p99"):
        assert any(line.startswith(label) for line in lines)
    assert "The replay as it was differs from what did happen by " in shown
    found = json.loads(file.read_text())
    assert [each["name"] for each in found["columns"]] == ["did happen", "as it was", "round-robin"]
    agreement = found["agreement"]
    assert agreement["lowest"] <= agreement["wait"] <= agreement["highest"]
    assert set(found["columns"][0]["shares"]) == {"north", "south", "west"}


def test_whatif_changes_sizes_and_limits(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For all substations, or by their names."""
    options = ["--connectors", "9,north=5", "--limits", "west=3", "--rated-power", "south=200"]
    assert cli.main(["whatif", str(run_file), *options], {}) == exits.OK
    shown = capsys.readouterr().out
    assert "what if:   north 5, 60 kW; south 9, 200 kW; west 9, limit 3" in shown
    assert cli.main(["whatif", str(run_file), "--without", "west"], {}) == exits.OK
    assert "what if:   north 4, 60 kW; south 6\n" in capsys.readouterr().out


def test_whatif_check_fails_where_the_replay_is_further_off(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where what is said of the dispatcher is wrong: here, by which policy it went."""
    options = ["--was", "random", "--policies", "random", "--check", "2"]
    assert cli.main(["whatif", str(run_file), *options], {}) == exits.FAILED
    assert "differs from what did happen" in capsys.readouterr().out


def test_export_is_read_back_as_the_jobs_were() -> None:
    """Every column that a replay needs; a time is exact to a microsecond."""
    found = export.read(as_csv(JOBS))
    for before, after in zip(JOBS, found, strict=True):
        assert (after.id, after.status, after.substation) == (
            before.id, before.status, before.substation,
        )  # fmt: skip
        for name in ("queued", "assigned", "charging", "ended", "departs", "requested_kwh"):
            assert getattr(after, name) == pytest.approx(getattr(before, name), abs=1e-5)
        assert (after.power_kw, after.priority) == (before.power_kw, before.priority)
        assert after.eligible == before.eligible


def test_whatif_reads_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain or gzipped; how many connectors there were must be said."""
    file = tmp_path / "jobs.csv.gz"
    file.write_bytes(gzip.compress(as_csv(JOBS).encode()))
    options = ["--connectors-were", "north=4,south=6,west=8", "--policies", "least-loaded"]
    assert cli.main(["whatif", str(file), *options, "--connectors", "30"], {}) == exits.OK
    shown = capsys.readouterr().out
    assert "as it was: north 4; south 6; west 8" in shown
    assert "what if:   north 30; south 30; west 30" in shown


async def test_whatif_reads_the_jobs_of_the_running_api() -> None:
    """Page by page; one that knows no job that has ended has nothing to replay."""
    async with FakeApi(page=7).serve() as fake:
        status, _, err = await command("whatif", "--url", fake.url)
        assert (status, "there is no job that has ended" in err) == (exits.USAGE, True)
        for number in range(20):
            fake.take(f"job{number}")
        options = ("--url", fake.url, "--since", "2020-01-01T00:00Z")
        status, out, err = await command("whatif", *options)
    assert status == exits.OK, err
    assert out.startswith("20 jobs; ")
    assert "substation1 50; substation2 50; substation3 50" in out
    assert fake.pages_asked[-1]["since"] == "2020-01-01T00:00Z"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["/nowhere.csv"], "/nowhere.csv: it cannot be read"),
        (["RUN", "--policies", "best"], "no policy 'best': one of least-loaded"),
        (["RUN", "--connectors", "0"], "must be a number of 1 or more, or NAME=N"),
        (["RUN", "--connectors", "north=many"], "must be a number of 1 or more, or NAME=N"),
        (["RUN", "--limits", "east=3"], "--limits: there is no substation east, only north, south"),
        (["RUN", "--without", "east"], "--without: there is no substation east"),
        (["RUN", "--without", "north,south,west"], "--without leaves no substation"),
        (["RUN", "--draws", "0"], "--draws must be at least 1, got 0"),
        (["RUN", "--charge-speed", "0"], "--charge-speed must be above 0, got 0"),
        (["RUN", "--since", "2020-01-01"], "--since and --until are for the api"),
        (["RUN", "--json", "/nowhere/x.json"], "there is no folder /nowhere"),
        (["CSV"], "how many connectors north had is not known: give --connectors-were north=N"),
        (["CSV", "--connectors-were", "east=3"], "--connectors-were: there is no substation east"),
        (["OTHER"], "other.csv: line 1: it has no column 'id', as the export of the api has: a"),
        (["BAD"], "bad.csv: line 2: requested_energy_kwh must be a number"),
        (["WRONG"], "wrong.csv: line 2: not a job"),
    ],
)
def test_whatif_exits_2_on_wrong_usage(
    options: list[str],
    problem: str,
    run_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last line says what is wrong."""
    texts = {
        "CSV": ("jobs.csv", as_csv(JOBS)),
        "OTHER": ("other.csv", "a\n1\n"),
        "BAD": ("bad.csv", as_csv(JOBS[:1]).replace(str(JOBS[0].requested_kwh), "much")),
        "WRONG": ("wrong.csv", as_csv(JOBS[:1]).replace(f"0,{JOBS[0].status},", "0,gone,")),
    }
    named = []
    for each in options:
        name, text = texts.get(each, ("", ""))
        if text:
            (tmp_path / name).write_text(text)
        named.append(str(tmp_path / name) if text else str(run_file) if each == "RUN" else each)
    with pytest.raises(SystemExit) as stop:
        cli.main(["whatif", *named], {})
    assert stop.value.code == exits.USAGE
    assert problem in capsys.readouterr().err
