from __future__ import annotations

from math import nan

import pytest

from bench.report import Part, Ratio, Row, Table, figure, insert, percentile, render

TABLE = Table(
    "The title",
    ["rate", "cost"],
    [
        Row("ours", [{"rate": 2.0, "cost": 10}, {"rate": 4.0, "cost": 10}, {"rate": 3.0}]),
        Row("peer", [{"rate": 6.0}]),
    ],
    [Ratio("rate", "ours", "peer"), Ratio("cost", "ours", "peer")],
    spreads=["rate"],
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12345.6, "12,346"),
        (999.6, "1,000"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.1234, "0.12"),
        (0, "0"),
        (nan, "–"),
    ],
)
def test_figure_has_three_significant_digits(value: float, shown: str) -> None:
    """More would say more than was measured."""
    assert figure(value) == shown


def test_percentile_is_a_value_that_was_measured() -> None:
    """By the nearest rank; of nothing there is none."""
    values = [float(each) for each in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.01) == 7
    assert figure(percentile([], 0.5)) == "–"


def test_render_shows_medians_spreads_and_ratios() -> None:
    """A contender without a figure is shown as one, and its ratio too."""
    text = render(Part("part", "A part", "How it was done.", [TABLE]))
    assert text.splitlines() == [
        "## A part",
        "",
        "How it was done.",
        "",
        "**The title**",
        "",
        "| | rate | cost |",
        "|---|---:|---:|",
        "| ours | 3.00 (2.00–4.00) | 10.0 |",
        "| peer | 6.00 | – |",
        "",
        "- rate: ours ÷ peer = **0.50**",
        "- cost: ours ÷ peer = **–**",
    ]


def test_insert_keeps_what_was_written_by_hand() -> None:
    """Only what is between the markers of that name is replaced."""
    before = insert(insert("# Title\n\nBy hand.\n", "a", "old a\n"), "b", "old b\n")
    changed = (
        before.replace("<!-- measured: b -->", "Between.\n\n<!-- measured: b -->") + "\nEnd.\n"
    )
    after = insert(changed, "a", "new a\n")
    assert after == changed.replace("old a", "new a")
    assert insert(after, "a", "new a\n") == after


def test_insert_begins_a_document_that_is_missing() -> None:
    """The first run needs no file."""
    assert insert("", "a", "text\n") == "<!-- measured: a -->\ntext\n<!-- end: a -->\n"
