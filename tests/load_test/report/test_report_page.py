"""The report: figures beside their floors, the page, the JSON, and two of them compared."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from grid.errors import ConfigurationError
from grid.events import State
from load_test import cli, exits
from load_test.records import Answer, Job, Substation
from load_test.report import charts
from load_test.report.charts import Bar, Line
from load_test.report.figures import Figure
from load_test.report.run_file import Recorded, decode, encode
from load_test.report.write import JSON, PAGE, command, write
from load_test.summary import Run, summarise

AT = 1_700_000_000.0


def made(jobs: int = 30, *, interrupted: bool = False, substations: int = 2, lose: int = 0) -> Run:
    """Make a run: a job a second, in turn at substations of two connectors, each takes 4 s."""
    found: dict[str, Job] = {}
    for number in range(jobs):
        at = AT + number
        name = f"s{1 + number % substations}"
        found[f"job{number}"] = Job(
            f"job{number}", State.COMPLETED, name, at, at + 0.01, at + 0.5, at + 4.5,
            requested_kwh=20.0, power_kw=11.0, departs=at + 4.7 - number % 2, delivered_kwh=20.0,
        )  # fmt: skip
    for number in range(lose):
        name = f"job{number}"
        found[name] = replace(found[name], status=State.CHARGING, ended=None)
    sites = [
        Substation(f"s{number}", 2.0, eligible=True, rated_power_kw=30.0)
        for number in range(1, substations + 1)
    ]
    return Run(
        answers=[
            Answer(job.id, 0.02, due=job.queued, late_seconds=0.001) for job in found.values()
        ],
        jobs=found,
        connectors={each.id: 2.0 for each in sites},
        sending_seconds=float(jobs),
        total_seconds=jobs + 5.0,
        interrupted=interrupted,
        capacity=2 * substations,
        started_at=AT,
        substations=sites,
    )


def written(folder: Path, run: Run, speed: float = 1.0) -> tuple[str, Recorded]:
    """Write a report; return the page and the run as it can be read back."""
    plan: dict[str, Any] = {"schedule": {"kind": "steady"}}
    argv = ["--rate", "1", "--url", "http://me:secret@host/"]
    write(folder, run, summarise(run), argv=argv, plan=plan, speed=speed)
    return (folder / PAGE).read_text(), decode((folder / JSON).read_bytes())


class Reader(HTMLParser):
    """Collects the addresses that a page would load, and checks that all elements are closed."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "img")
        self.loaded += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    """Six charts, every figure beside its floor, the conclusion and the command."""
    page, run = written(tmp_path, made())
    reader = Reader()
    reader.feed(page)
    assert (reader.open, reader.loaded) == ([], [])
    assert "http" not in page.replace("http://…@host", "")
    assert "url(" not in page
    assert page.count("<svg") == 6
    for part in (
        "Kept: each of 30 accepted requests has ended, none was lost.",
        "python -m load_test --rate 1 --url http://…@host/",
        "demands met", "energy delivered", "peak utilisation", "overload", "fairness",
        "floor: one central queue", "due to charging, p99", "share of s1",
    ):  # fmt: skip
        assert part in page
    assert "secret" not in page
    assert "secret" not in (tmp_path / JSON).read_text()
    for figure in run.figures:
        assert figure.label in page


def test_page_figures_are_those_of_the_run(tmp_path: Path) -> None:
    """Counted by hand: half of the vehicles leave a quarter early, and the floor has no wait."""
    _, run = written(tmp_path, made())
    found: dict[str, Any] = {each.name: (each.value, each.floor) for each in run.figures}
    assert found["demands_met"] == (0.5, 0.5)
    value, floor = found["energy_delivered"]
    assert value == pytest.approx((1 + 3.2 / 4) / 2)
    assert floor == pytest.approx((1 + 3.7 / 4) / 2)
    assert found["mean_wait"] == (pytest.approx(0.5), 0)
    assert found["lost"] == (0, 0)
    assert found["peak_utilisation"] == (1.0, 1.0)
    assert found["overload_minutes"] == (0, 0)
    assert found["due_to_charging_p99"] == (pytest.approx(0.5), 0)
    assert found["share_s1"] == (0.5, 0.5)
    assert found["wait_to_floor"] == (None, 1)


def test_page_of_an_interrupted_run_says_that_it_is_partial(tmp_path: Path) -> None:
    """So does its JSON; a run that lost a request says how many."""
    page, run = written(tmp_path, made(interrupted=True, lose=2))
    assert 'class="conclusion partial"' in page
    met = next(each for each in run.figures if each.name == "demands_met")
    assert met.value == 0.5  # of those that have ended
    assert "28 of 30 accepted requests had been completed, and 2 had no end yet" in run.conclusion
    page, run = written(tmp_path, made(lose=2))
    assert 'class="conclusion failed"' in page
    assert (run.kept, run.conclusion) == (False, "Failed: 2 of 30 accepted requests were lost.")


def test_page_of_nothing_has_no_data_and_no_error(tmp_path: Path) -> None:
    """As after Ctrl-C before the first answer, or with no substation."""
    empty = Run([None] * 5, {}, {}, 0.0, 0.1, interrupted=True)
    page, run = written(tmp_path, empty)
    assert "no data" in page
    assert run.jobs == []
    refused = Run([Answer(None, 1.0, reason="503")], {}, {}, 1.0, 1.0)
    assert written(tmp_path, refused)[1].conclusion == "Failed: no request was accepted."


def test_page_of_many_substations_shows_highest_mean_and_lowest(tmp_path: Path) -> None:
    """A hundred lines would show nothing; of the bars, the first are drawn."""
    page, _ = written(tmp_path, made(200, substations=100))
    for part in ("highest", "lowest", "the first 40 of 100"):
        assert part in page


def test_page_escapes_names(tmp_path: Path) -> None:
    """A substation's name is text, whatever is in it."""
    run = made()
    evil = {name: replace(job, substation="<b>&") for name, job in run.jobs.items()}
    page, _ = written(tmp_path, replace(run, jobs=evil))
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page


def test_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Jobs, substations and answers, for other commands to go on with."""
    run = made()
    _, found = written(tmp_path, run, speed=60)
    assert decode(encode(found)) == found
    assert list(found.jobs) == list(run.jobs.values())
    assert found.sites() == list(run.substations)
    assert found.speed == 60
    assert json.loads((tmp_path / JSON).read_text())["started_at"] == "2023-11-14T22:13:20+00:00"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "other"}', '{"kind": 1}', "\xff"])
def test_run_that_is_none_is_refused(text: str) -> None:
    """The error says what was expected."""
    with pytest.raises(ConfigurationError, match="not the JSON of a run, as --report writes it"):
        decode(text.encode("latin-1"))


def test_compare_shows_two_runs_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the change, and whether it is for the better; what one run lacks is a dash."""
    one, other = made(), made(substations=3)
    slow = {
        name: replace(job, charging=(job.charging or 0.0) + 1, ended=(job.ended or 0.0) + 1)
        for name, job in other.jobs.items()
    }
    for name, run in (("a", one), ("b", replace(other, jobs=slow))):
        (tmp_path / name).mkdir()
        written(tmp_path / name, run)
    files = [str(tmp_path / name / JSON) for name in ("a", "b")]
    assert cli.main(["compare", *files], {}) == exits.OK
    table = capsys.readouterr().out
    lines = {" ".join(line.split()) for line in table.splitlines()}
    assert "mean wait 500.0 ms 1.50 s +200.0 % worse" in lines
    assert "share of s3 – 33.3 % –" in lines
    assert "lost 0 0 –" in lines
    assert table.startswith("A: python -m load_test --rate 1")
    assert cli.main(["compare", files[1], files[0]], {}) == exits.OK
    assert "-66.7 %  better" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "{}"])
def test_compare_names_a_wrong_file(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is not there, or holds something else."""
    file = tmp_path / "run.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", str(file), str(file)], {})
    assert stop.value.code == exits.USAGE
    assert f"{file}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("share", 0.25, "25.0 %"),
        ("seconds", 0.25, "250.0 ms"),
        ("count", 12345, "12,345"),
        ("index", 0.98765, "0.988"),
        ("minutes", 1.5, "1.50 min"),
        ("count", None, "–"),
    ],
)
def test_figure_is_shown_in_its_unit(unit: Any, value: float | None, shown: str) -> None:  # noqa: ANN401
    """With as many digits as say something."""
    assert Figure("a", "a", "A", value, None, unit, "low").shown(value) == shown


def test_charts_are_well_formed_and_within_their_size() -> None:
    """Zero, one point, equal values, huge and tiny ones."""
    for points in (
        [(0.0, 0.0)],
        [(0.0, 5.0), (1.0, 5.0)],
        [(0.0, 1e-9), (1e6, 1e9)],
        [(float(x), float(x**2)) for x in range(50)],
    ):
        for logarithmic in (False, True):
            chart = charts.lines(
                "A & B",
                [Line("one", points), Line("floor", points, is_floor=True, steps=True)],
                x_label="x",
                y_label="y",
                logarithmic=logarithmic,
            )
            root = ET.fromstring(chart)  # noqa: S314  # our own
            for path in root.iter("path"):
                assert "nan" not in str(path.get("d"))
                assert "inf" not in str(path.get("d"))
    ET.fromstring(charts.bars("bars", [Bar("a", 0.0), Bar("b", 2.0, 1.0)]))  # noqa: S314
    assert "no data" in charts.bars("none", [])
    assert "no data" in charts.lines("none", [Line("a", [])], x_label="", y_label="")


def test_command_is_quoted_and_has_no_password() -> None:
    """It can be pasted into a shell."""
    told = command(["replay", "my file.csv", "--url", "http://u:p@h:1/"])
    assert told == "python -m load_test replay 'my file.csv' --url http://…@h:1/"
