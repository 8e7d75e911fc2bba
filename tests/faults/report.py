"""The table of faults as text: what is printed, and kept in ``docs/reliability.md``. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Final

from grid.events import State
from tests.faults.accounts import Account

BEGIN: Final = "<!-- the table: written by `make faults` -->"
END: Final = "<!-- end of the table -->"
HEADINGS: Final = (
    "fault",
    "accepted",
    "completed",
    "parked",
    "lost",
    "duplicates",
    "not accepted",
    "back after",
    "allowed",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One fault and its outcome; times in seconds.

    ``refused`` counts the requests not answered 202; ``figures`` are what else was measured.
    ``recovered`` is None if service did not become normal, and NaN if that was not measured.
    ``within`` is None if no time is promised.
    """

    fault: str
    account: Account
    refused: int
    recovered: float | None
    within: float | None
    figures: Sequence[str] = ()

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the table's line."""
        account, back = self.account, self.recovered
        took = "never" if back is None else "-" if isnan(back) else f"{back:.1f} s"
        return (
            "; ".join((self.fault, *self.figures)),
            f"{account.accepted:,}",
            f"{account.ends.get(State.COMPLETED, 0):,}",
            f"{account.ends.get(State.PARKED, 0):,}",
            f"{len(account.lost):,}",
            f"{account.duplicates:,}",
            f"{self.refused:,}",
            took,
            "-" if self.within is None else f"{self.within:g} s",
        )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, its columns aligned."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        f"| {' | '.join(_padded(line, widths))} |" for line in (lines[0], tuple(rule), *lines[1:])
    )


def with_table(document: str, content: str, begin: str = BEGIN, end: str = END) -> str:
    """Put the content between the document's two marks. Raise ``ValueError`` without them."""
    before, has_begin, rest = document.partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        raise ValueError(f"no lines {begin} and {end} in the document: put them where it belongs")
    return f"{before}{begin}\n{content}\n{end}{after}"


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(cells, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
