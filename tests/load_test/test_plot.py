"""The picture of a comparison."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from load_test.simulate.compare import Comparison
from load_test.simulate.figures import Figures, Floor

PERIODS = (0.0, 1.0, 10.0)


@pytest.fixture(scope="module")
def plot() -> ModuleType:
    """Import matplotlib for these tests alone: each worker process imports every test."""
    return import_module("load_test.plot")


def comparison() -> Comparison:
    """Make one of two policies, the periods in no order."""
    runs = [
        Figures(name, period, 0.9 * factor * (1 + period), 9.0, None, 0.0, 1.0)
        for name, factor in (("least-loaded", 1), ("random", 4))
        for period in reversed(PERIODS)
    ]
    return Comparison(Floor(0.9, 4.0), runs)


def test_plot_has_a_line_for_each_policy_and_the_floor(plot: ModuleType) -> None:
    """Each line has a point for each period, from the shortest to the longest, on a log scale."""
    (axes,) = plot.figure(comparison(), "about").axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    assert list(lines) == ["least-loaded", "random", "floor"]
    assert lines["least-loaded"] == pytest.approx([0.9, 1.8, 9.9])
    assert lines["random"] == pytest.approx([3.6, 7.2, 39.6])
    assert lines["floor"] == [0.9, 0.9]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "10"]
    assert axes.get_yscale() == "log"
    written = [text.get_text() for text in axes.texts]
    assert written == ["about", "floor", "least-loaded", "random"]


@pytest.mark.parametrize(("floor", "factor"), [(0.0, 4), (0.9, 1.1)])
def test_plot_uses_a_linear_scale_for_zero_or_equal_waits(
    plot: ModuleType, floor: float, factor: float
) -> None:
    """There is no logarithm of 0, and next to no mark on it between 1 and 1.1."""
    alike = Comparison(
        Floor(floor, 1.0),
        [Figures("random", each, floor * factor, 9.0, None, 0.0, 1.0) for each in PERIODS],
    )
    (axes,) = plot.figure(alike, "about").axes
    assert axes.get_yscale() == "linear"


def test_plot_file_is_a_png_of_documented_size(plot: ModuleType, tmp_path: Path) -> None:
    """It is sharp at 800 dots wide, light, and a few dozen kilobytes."""
    file = tmp_path / "figure.png"
    plot.write(comparison(), "about", file)
    with Image.open(file) as image:
        assert image.format == "PNG"
        assert image.size == (1600, 960)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert 10_000 < file.stat().st_size < 300_000


@given(st.lists(st.floats(0, 1), max_size=8))
def test_plot_labels_do_not_overlap(plot: ModuleType, heights: list[float]) -> None:
    """No two overlap, and what has room stays where it is."""
    named = {str(number): height for number, height in enumerate(heights)}
    found = plot.apart(named, 0.05)
    placed = sorted(found.values())
    assert all(upper - lower >= 0.05 - 1e-9 for lower, upper in pairwise(placed))
    assert sorted(found, key=lambda name: (found[name], name)) == sorted(
        named, key=lambda name: (named[name], found[name])
    )
    assert plot.apart({"a": 0.1, "b": 0.2}, 0.05) == {"a": 0.1, "b": 0.2}
