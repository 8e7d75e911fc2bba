"""A run described by a file: what is read, and which error names what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from grid.errors import ConfigurationError
from load_test.plans.file import read
from load_test.plans.plan import Plan
from load_test.plans.schedule import RushHour
from load_test.plans.vehicles import Vehicle

TEXT = """
schedule: {kind: rush-hour, rate: 1, peak_rate: 20, seconds: 120}
speed: 3600
seed: 7
vehicles:
  - {name: bus, share: 1, power_kw: 150, energy_kwh: [100, 300], stay_minutes: 120, priority: 5}
  - {name: car, share: 4, power_kw: [3.7, 11], stay_minutes: [30, 600]}
"""
PLAN = Plan(
    schedule=RushHour(rate=1, peak_rate=20, seconds=120),
    speed=3600,
    seed=7,
    vehicles=(
        Vehicle(
            name="bus",
            power_kw=(150, 150),
            energy_kwh=(100, 300),
            stay_minutes=(120, 120),
            priority=5,
        ),
        Vehicle(name="car", share=4, power_kw=(3.7, 11), stay_minutes=(30, 600)),
    ),
)


def test_file_is_yaml_or_json(tmp_path: Path) -> None:
    """Both describe the same run; what is left out has its default."""
    yaml, as_json, empty = (tmp_path / name for name in ("run.yaml", "run.json", "empty.json"))
    yaml.write_text(TEXT)
    as_json.write_text(PLAN.model_dump_json())
    empty.write_text("{}")
    assert read(yaml) == read(as_json) == PLAN
    assert read(empty) == Plan()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not YAML: "),
        ("[1]", "it must be an object with a schedule, got"),
        ("speed: fast", "speed input should be a valid number.*got 'fast'"),
        ("speed: 0", "speed must be above 0, got 0"),
        ("sped: 1", "sped is not known: got 1"),
        ("schedule: {rate: 1}", "schedule.kind is missing"),
        ("schedule: {kind: flood}", "schedule.kind must be one of 'steady', 'poisson'"),
        ("schedule: {kind: steady, rate: -3}", "schedule.rate must be above 0 a second, got -3"),
        ("schedule: {kind: steady, senders: 3}", "schedule.senders is not known: got 3"),
        ("vehicles: []", "vehicles .*at least 1"),
        ("vehicles: [{}, {share: 0}]", r"vehicles\[1\].share must be above 0, got 0"),
        ("vehicles: [{power_kw: [9, 3]}]", r"vehicles\[0\].power_kw must be a number above 0, or"),
        ("vehicles: [{priority: 10}]", r"vehicles\[0\].priority input should be less than .* 9"),
    ],
)
def test_file_error_names_the_path_and_the_value(text: str, problem: str, tmp_path: Path) -> None:
    """The file is named too, and all that is wrong is told at once."""
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=f"--file {file}: {problem}"):
        read(file)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """So is one that is no JSON."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        read(tmp_path / "nowhere.yaml")
    file = tmp_path / "run.json"
    file.write_text(json.dumps({})[:-1])
    with pytest.raises(ConfigurationError, match="not JSON: "):
        read(file)
