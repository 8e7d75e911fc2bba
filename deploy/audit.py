"""``python -m deploy.audit``: does any package of the lock files have a known vulnerability?

The exit status is 1 if one has, and 2 if the database could not be asked: then nothing is proven.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from deploy.stack import ROOT
from grid.errors import GridError

LOCK_FILES: Final = ("requirements.lock", "requirements-otel.lock", "requirements-dev.lock")
TIMEOUT_SECONDS: Final = 300
CLEAN, VULNERABLE, UNKNOWN = 0, 1, 2


class NoAnswer(GridError):
    """The database of vulnerabilities could not be asked."""


class Answer(NamedTuple):
    """The known vulnerabilities of a lock file's packages; ``unknown`` are packages not found."""

    packages: int
    vulnerable: tuple[str, ...]
    unknown: tuple[str, ...]


def ask(lock_file: Path) -> Answer:
    """Ask the database about every package of a lock file. Raise ``NoAnswer`` if that fails."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock_file)]
    options = ["--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json"]
    try:
        done = subprocess.run(  # noqa: S603
            [*command, *options],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return read(json.loads(done.stdout))
    except (OSError, ValueError, LookupError, TypeError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(f"{lock_file.name}: pip-audit gave no answer: {error}") from error


def read(report: Mapping[str, Any]) -> Answer:
    """Read pip-audit's report; raise ``LookupError`` or ``TypeError`` if it is none or empty."""
    packages = report["dependencies"]
    if not packages:
        raise LookupError("its report names no package")
    vulnerable = tuple(
        f"{each['name']} {each['version']}: {found['id']}, "
        f"mended in {', '.join(found['fix_versions']) or 'no version yet'}"
        for each in packages
        for found in each.get("vulns", ())
    )
    unknown = tuple(each["name"] for each in packages if "skip_reason" in each)
    return Answer(len(packages), vulnerable, unknown)


def main() -> int:
    """Ask about each lock file, and print the result."""
    status = CLEAN
    for name in LOCK_FILES:
        try:
            answer = ask(ROOT / name)
        except NoAnswer as error:
            print(error)  # noqa: T201
            status = status or UNKNOWN
            continue
        print(f"{name}: {text(answer)}")  # noqa: T201
        if answer.vulnerable:
            status = VULNERABLE
        elif answer.unknown:
            status = status or UNKNOWN
    return status


def text(answer: Answer) -> str:
    """Return what an answer means."""
    asked = answer.packages - len(answer.unknown)
    lines = [f"{asked} of {answer.packages} packages looked up", *answer.vulnerable]
    if answer.unknown:
        lines.append(f"not known to the database, or it is out of reach: {len(answer.unknown)}")
    elif not answer.vulnerable:
        lines.append("nothing known against them")
    return "\n  ".join(lines)


if __name__ == "__main__":
    sys.exit(main())
