"""Markdown as the generated pages use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

GENERATED: Final = (
    "<!-- Generated from the code: `.venv/bin/python -m tests.docs.reference` renews it. -->\n\n"
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, without the columns that are empty; its cells may hold anything."""
    rows = list(rows)
    used = [n for n in range(len(head)) if any(row[n] for row in rows)]
    lines = [[line[n] for n in used] for line in (head, ["---"] * len(head), *rows)]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines) + "\n"


def code(text: object) -> str:
    """Return text as code, or nothing of nothing."""
    return f"`{text}`" if text != "" else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip() or " "
