"""How long others wait beside a tenant that floods, in virtual time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from load_test import flood
from load_test.flood import Scene
from load_test.simulate.scenario import Durations
from tests.examples import jobs

SCENE = Scene((10, 10, 10), Durations(2.0, 5.0), jobs=jobs(3_000, 1_000))


def test_flood_of_one_tenant_costs_others_at_most_a_fifth_of_their_wait() -> None:
    """Where all send as much as their share; without sharing, they wait for many sessions."""
    found = flood.line(SCENE, 1.0, seed=1)
    assert found.ratio <= 1.2
    assert found.unshared > 20 * found.shared


def test_flood_costs_others_hardly_more_than_the_end_of_a_session() -> None:
    """With spare connectors, hardly more than if all of theirs came first."""
    found = flood.line(SCENE, 0.8, seed=1)
    assert found.shared <= 1.2 * found.least
    assert found.shared < 0.15


def test_flood_leaves_the_demands_of_others_met() -> None:
    """Where vehicles depart; without sharing, a third of them leaves too early."""
    found = flood.met(
        Scene((10, 10, 10), Durations(2000.0, 5000.0), jobs=jobs(1_500, 500)), 0.9, seed=1
    )
    assert found.without > 0.99
    assert found.shared > 0.93
    assert found.unshared < 0.8


def test_flood_command_prints_and_writes_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each utilisation."""
    file = tmp_path / "flood.json"
    options = ["--jobs", "200", "--utilisation", "0.9,1", "--connectors", "2x2", "--json"]
    assert flood.main([*options, str(file)], {}) == 0
    text = capsys.readouterr().out
    assert "mean wait of 9 tenants while another sends 10 x its share" in text
    assert [each["utilisation"] for each in json.loads(file.read_text())["lines"]] == [0.9, 1.0]
