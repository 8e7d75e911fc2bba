"""Two runs side by side: ``python -m load_test compare``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from grid.errors import ConfigurationError
from load_test.report.figures import HIGH, LOW, Figure
from load_test.report.run_file import Recorded, decode

_SAME: Final = 0.005  # relative differences below are no difference
_EXAMPLES: Final = """
examples:
  python -m load_test --rate 50 --requests 1000 --report before
  python -m load_test --rate 50 --requests 1000 --report after
  python -m load_test compare before/run.json after/run.json
"""


def main(argv: Sequence[str], _: Mapping[str, str]) -> int:
    """Print two runs side by side; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m load_test compare",
        description="Prints the figures of two runs side by side, as --report has written them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("one", type=Path, metavar="A.json")
    parser.add_argument("other", type=Path, metavar="B.json")
    given = parser.parse_args(argv)
    try:
        one, other = (read(path) for path in (given.one, given.other))
    except ConfigurationError as error:
        parser.error(str(error))
    sys.stdout.write(f"{table(one, other)}\n")
    return 0


def read(path: Path) -> Recorded:
    """Return the run that a file holds. Raise ``ConfigurationError`` that names the file."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def table(one: Recorded, other: Recorded) -> str:
    """Return the figures of two runs, with the change and whether it is for the better."""
    lines = [
        f"A: {one.command}",
        f"   {one.conclusion}",
        f"B: {other.command}",
        f"   {other.conclusion}",
    ]
    lines.append(f"\n{'':<34}{'A':>14}{'B':>14}{'change':>11}")
    figures = {each.name: each for each in other.figures}
    for figure in one.figures:
        beside = figures.pop(figure.name, None)
        lines.append(_line(figure, figure.value, None if beside is None else beside.value))
    lines += [_line(each, None, each.value) for each in figures.values()]
    return "\n".join(line.rstrip() for line in lines)


def _line(figure: Figure, one: float | None, other: float | None) -> str:
    values = f"{figure.shown(one):>14}{figure.shown(other):>14}"
    return f"{figure.label:<34}{values}{_change(one, other):>11}  {_word(figure, one, other)}"


def _change(one: float | None, other: float | None) -> str:
    if one is None or other is None or one == other:
        return "–"
    return f"{100 * (other / one - 1):+.1f} %" if one else "from 0"


def _word(figure: Figure, one: float | None, other: float | None) -> str:
    """Return whether B is better or worse; nothing where it is the same, or neither is better."""
    if one is None or other is None or abs(other - one) <= _SAME * max(abs(one), abs(other)):
        return ""
    if figure.better == LOW:
        return "better" if other < one else "worse"
    if figure.better == HIGH:
        return "better" if other > one else "worse"
    return ""
