"""What was measured, as tables of medians and ratios in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, nan
from statistics import median
from typing import Final, NamedTuple

SIGNIFICANT: Final = 3
WHOLE_FROM: Final = 1000  # from here on, figures have thousands and no decimals


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one contender, by column; one mapping for each round."""

    name: str
    rounds: Sequence[Mapping[str, float]]

    def median(self, column: str) -> float:
        """Return the median of the rounds that have a figure for a column; nan if none has."""
        found = [each[column] for each in self.rounds if column in each]
        return median(found) if found else nan

    def spread(self, column: str) -> tuple[float, float]:
        """Return the lowest and the highest figure of a column."""
        found = [each[column] for each in self.rounds if column in each] or [nan]
        return min(found), max(found)


class Ratio(NamedTuple):
    """A row's median of a column, divided by another row's."""

    column: str
    over: str
    under: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and columns; ``spreads`` are the columns whose lowest and highest figures are shown."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    ratios: Sequence[Ratio] = ()
    spreads: Sequence[str] = ()

    def row(self, name: str) -> Row:
        """Return the row of that name."""
        return next(each for each in self.rows if each.name == name)


@dataclass(frozen=True, slots=True)
class Part:
    """One subject: ``name`` is its name on the command line, ``text`` says how it was measured."""

    name: str
    title: str
    text: str
    tables: Sequence[Table]


def compared(
    found: Mapping[str, list[Mapping[str, float]]], base: str, ratios: Mapping[str, str]
) -> list[Row]:
    """Return rows that have the ratios to one of them, round by round.

    ``ratios`` maps the name of a ratio to the column of which it is.
    """
    return [
        Row(
            name,
            [
                {
                    **figures,
                    **{
                        ratio: figures[column] / of_base[column]
                        for ratio, column in ratios.items()
                        if column in figures and of_base[column]
                    },
                }
                for figures, of_base in zip(rounds, found[base], strict=True)
            ],
        )
        for name, rounds in found.items()
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of all lie, by the nearest rank; nan if empty."""
    if not values:
        return nan
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def figure(value: float) -> str:
    """Return a figure as text: three significant digits, or whole thousands."""
    if value != value:  # noqa: PLR0124 - not a number
        return "–"
    if abs(value) >= WHOLE_FROM or value == 0:
        return f"{value:,.0f}"
    digits = SIGNIFICANT - len(f"{abs(value):.0f}") if abs(value) >= 1 else SIGNIFICANT - 1
    return f"{value:,.{max(0, digits)}f}"


def render(part: Part) -> str:
    """Return a part as Markdown, without its markers."""
    blocks = [f"## {part.title}", part.text]
    for table in part.tables:
        blocks.append(f"**{table.title}**")
        blocks.append(_table(table))
        if table.ratios:
            blocks.append("\n".join(_ratio(table, each) for each in table.ratios))
    return "\n\n".join(blocks) + "\n"


def insert(document: str, name: str, text: str) -> str:
    """Return a document with the text between the markers of that name; the rest is unchanged.

    If the markers are missing, they are added at the end.
    """
    begin, end = f"<!-- measured: {name} -->\n", f"<!-- end: {name} -->\n"
    if begin in document and end in document:
        before, _, rest = document.partition(begin)
        _, _, after = rest.partition(end)
    else:
        before, after = document.rstrip("\n") + "\n\n" if document else "", ""
    return f"{before}{begin}{text}{end}{after}"


def _table(table: Table) -> str:
    lines = [
        f"| | {' | '.join(table.columns)} |",
        f"|---|{'---:|' * len(table.columns)}",
    ]
    for row in table.rows:
        cells = [_cell(table, row, column) for column in table.columns]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(table: Table, row: Row, column: str) -> str:
    shown = figure(row.median(column))
    low, high = row.spread(column)
    if column not in table.spreads or len(row.rounds) < 2 or low != low:  # noqa: PLR0124, PLR2004
        return shown
    return f"{shown} ({figure(low)}–{figure(high)})"


def _ratio(table: Table, ratio: Ratio) -> str:
    over = table.row(ratio.over).median(ratio.column)
    under = table.row(ratio.under).median(ratio.column)
    value = over / under if under else nan
    return f"- {ratio.column}: {ratio.over} ÷ {ratio.under} = **{figure(value)}**"
