"""Writing the report of a run into a folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grid.errors import ConfigurationError
from load_test.report.figures import all_jobs, figures, floors
from load_test.report.page import Material, page
from load_test.report.run_file import encode, recorded
from load_test.summary import Run, Summary

PAGE, JSON = "report.html", "run.json"
_LOGIN: Final = re.compile(r"//[^/@\s]*@")


def folder(path: Path) -> Path:
    """Return a folder, made if it is not there.

    Raise ``ConfigurationError`` if that cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--report {path}: {error.strerror}") from error
    return path


def write(
    path: Path,
    run: Run,
    summary: Summary,
    *,
    argv: Sequence[str],
    plan: Mapping[str, Any],
    speed: float,
) -> Path:
    """Write the page and the JSON of a run into a folder; return the page's path."""
    jobs = all_jobs(run)
    least = floors(run, jobs, speed)
    written = recorded(
        run,
        summary,
        figures(run, summary, jobs, least, speed),
        jobs=jobs,
        command=command(argv),
        plan=plan,
        speed=speed,
    )
    (path / JSON).write_bytes(encode(written))
    made = path / PAGE
    made.write_text(page(Material(written, least, run.started_at)), encoding="utf-8")
    return made


def command(argv: Sequence[str]) -> str:
    """Return the command as it was typed, without a password that an address may hold."""
    return _LOGIN.sub("//…@", shlex.join(["python", "-m", "load_test", *argv]))
