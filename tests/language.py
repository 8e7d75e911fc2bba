"""The project's language, as far as a program can check it: ``python -m tests.language``.

Docstrings begin with an imperative verb of ordinary English, and identifiers use the terms that
RabbitMQ, Kubernetes and Envoy use. ``REPLACED`` lists words that the project used instead.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

BEGINNINGS: Final = re.compile(r"(Gives?|Tells? whether|Takes?|Sees? to|Lets? go)\b")

# Identifiers, without leading underscores, and the terms to use instead.
REPLACED: Final[Mapping[str, str]] = {
    "Account": "SubstationState",
    "AtTheDoor": "authenticator",
    "Desk": "ParkedQueue",
    "FakeRescue": "FakeReclaimer",
    "Fleet": "CandidateTable",
    "Held": "ParkedMessage",
    "Hold": "Reservation",
    "Ledger": "LoadTracker",
    "Note": "StackState",
    "Patience": "FailureDetector",
    "Rescue": "Reclaimer",
    "SetBack": "RequeueOverflow",
    "TakeBack": "Reclaim",
    "Turn": "Standby",
    "Verdict": "Evacuation",
    "Wish": "Requirements",
    "anchored": "synced",
    "barred": "blocked_reason",
    "deaf": "events_stale",
    "desk": "parked_queue",
    "fleet": "table",
    "fleet_of": "table_of",
    "hopeless": "impossible",
    "ledger": "tracker",
    "ledger_of": "tracker_of",
    "let_go": "invalidate_baseline",
    "lightest": "least_utilised",
    "line_of": "queue_of",
    "make_way": "requeue",
    "open_to": "candidates",
    "owed": "events_due",
    "pardon": "end_ejection",
    "ramp": "slow_start",
    "rescue": "reclaim",
    "rescued": "reclaimed",
    "set_back": "requeue_overflow",
    "set_scale": "sync_baseline",
    "spared": "own_sessions",
    "take_back": "reclaim",
    "taken_back": "reclaimed",
    "verdict": "evacuation",
    "why_not": "reason_against",
    "wish": "requirements",
}
# Constants: a timeout, an interval or a maximum is named as such.
CONSTANTS: Final = re.compile(r"(\w*PATIENCE\w*|LOOK_SECONDS|\w*PERIOD_SECONDS|\w+_MOST(_\w+)?)")
# Where a word still stands, or means something else: below this path it is allowed.
ALLOWED: Final[Mapping[str, str]] = {
    "dispatcher/metrics.py": "rescued",  # part of a metric's name
    "tests/faults": "Account",  # of requests
}


def folders() -> list[Path]:
    """Return every package of the project, as mypy checks them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [ROOT / name for name in settings["tool"]["mypy"]["packages"]]


def problems(path: Path) -> Iterator[str]:
    """Yield what is wrong with the language of one file, with its place."""
    name = path.relative_to(ROOT).as_posix()
    yield from (f"{name}:{line}: {text}" for line, text in check(path.read_text("utf-8"), name))


def check(source: str, name: str = "") -> Iterator[tuple[int, str]]:
    """Yield the line and the description of each problem in a file's text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = BEGINNINGS.match(ast.get_docstring(node) or "")
            if found:
                line = getattr(node, "lineno", 1)
                yield (
                    line,
                    f"a docstring begins with {found[0]!r}: begin with Return, Raise, Wait …",
                )
    allowed = [re.compile(words) for path, words in ALLOWED.items() if is_below(name, path)]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            word = token.string.lstrip("_")
            instead = REPLACED.get(word) or (CONSTANTS.fullmatch(word) and "TIMEOUT, INTERVAL, MAX")
            if instead and not any(each.fullmatch(word) for each in allowed):
                yield token.start[0], f"{token.string} is a replaced word: use {instead}"


def is_below(name: str, path: str) -> bool:
    """Return whether a file is that path, or within it."""
    return name == path or name.startswith(f"{path}/")


def main() -> int:
    """Print every problem; return 1 if there is any."""
    found = [
        text
        for folder in folders()
        for path in sorted(folder.rglob("*.py"))
        for text in problems(path)
    ]
    sys.stdout.writelines(f"{text}\n" for text in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
