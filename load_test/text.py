"""A run as text: the lines of each request, in their old form, and the table. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from load_test.records import Answer

_PLAIN_ID = re.compile(r"substation(\d+)\Z")
_DIGITS = re.compile(r"(\d+)")


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sorting key that puts substation10 after substation9."""
    parts = _DIGITS.split(name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def lines(answer: Answer) -> str:
    """Return the lines of one request: the loads the decision was made on, and where it went."""
    if answer.job is None:
        return f"[!] Refused: {answer.reason}"
    routed = answer.routed_to or f"waiting ({answer.reason or 'no decision yet'})"
    if not answer.loads:
        return f"[i] Routed to: {routed}"
    return f"[i] Substation Loads → [{_loads(answer.loads)}]\n[i] Routed to: {routed}"


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table with labels aligned on the left and values beside them."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}".rstrip() for label, value in rows)


def share(value: float | None) -> str:
    """Return a share from 0 to 1 as a percentage."""
    return "–" if value is None else f"{100 * value:.1f} %"


def seconds(value: float) -> str:
    """Return a time in the unit that suits its size."""
    return f"{1000 * value:.1f} ms" if abs(value) < 1 else f"{value:.2f} s"


def duration(value: float) -> str:
    """Return a time of seconds, minutes or hours in the unit that suits its size."""
    if value < 60:  # noqa: PLR2004  # a minute
        return seconds(value)
    return f"{value / 60:.1f} min" if value < 2 * 3600 else f"{value / 3600:.1f} h"


def percentiles(values: Iterable[float] | None) -> str:
    """Return p50, p95 and p99 side by side."""
    if values is None:
        return "–"
    named = zip(("p50", "p95", "p99"), values, strict=True)
    return "   ".join(f"{name} {seconds(value):>9}" for name, value in named)


def _loads(loads: Mapping[str, float]) -> str:
    return ", ".join(f"{_short(name)}: {loads[name]:.1f}" for name in sorted(loads, key=natural))


def _short(name: str) -> str:
    return _PLAIN_ID.sub(r"S\1", name)
