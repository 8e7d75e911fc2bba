"""A run as JSON: all that was recorded, and its figures. Pure.

Other commands read it back: ``compare`` its figures, ``whatif`` its jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from grid.errors import ConfigurationError
from load_test.records import Answer, Job, Substation
from load_test.report.figures import Figure
from load_test.summary import Run, Summary, accepted_jobs

KIND: Final = "load_test run"
VERSION: Final = 1


class SubstationFields(Struct, frozen=True):
    """A substation, see ``records.Substation``."""

    id: str
    connectors: float | None
    eligible: bool = True
    load: float | None = None
    rated_power_kw: float | None = None
    background_power_kw: float | None = None
    limit: float | None = None


class Recorded(Struct, frozen=True):
    """A run as it is written; times of jobs are Unix seconds.

    ``own`` are the ids of the jobs that the run has sent, ``answers`` the results of its requests;
    ``plan`` is what was planned, as far as it can be told.
    """

    kind: Literal["load_test run"]
    version: Literal[1]
    command: str
    started_at: str
    seconds: float
    interrupted: bool
    kept: bool
    conclusion: str
    speed: float
    plan: Mapping[str, Any]
    figures: Sequence[Figure]
    summary: Mapping[str, Any]
    substations: Sequence[SubstationFields]
    own: Sequence[str]
    jobs: Sequence[Job]
    answers: Sequence[Answer | None]

    def sites(self) -> list[Substation]:
        """Return the substations as they were at the end of the run."""
        return [Substation(**msgspec.structs.asdict(each)) for each in self.substations]


def recorded(
    run: Run,
    summary: Summary,
    figures: Sequence[Figure],
    *,
    jobs: Sequence[Job],
    command: str,
    plan: Mapping[str, Any],
    speed: float,
) -> Recorded:
    """Return a run as it is written."""
    own = accepted_jobs(run)
    return Recorded(
        kind=KIND,
        version=VERSION,
        command=command,
        started_at=datetime.fromtimestamp(run.started_at, UTC).isoformat(timespec="seconds"),
        seconds=round(run.total_seconds, 3),
        interrupted=run.interrupted,
        kept=summary.kept,
        conclusion=conclusion(summary, interrupted=run.interrupted),
        speed=speed,
        plan=plan,
        figures=figures,
        summary=summary.as_json(),
        substations=[SubstationFields(**each._asdict()) for each in run.substations],
        own=[each.id for each in jobs if each.id in own],
        jobs=jobs,
        answers=run.answers,
    )


def conclusion(summary: Summary, *, interrupted: bool) -> str:
    """Return whether the promise was kept, in one sentence."""
    if interrupted:
        return (
            f"Interrupted: a partial run. {summary.completed:,} of {summary.accepted:,} accepted "
            f"requests had been completed, and {summary.unfinished:,} had no end yet."
        )
    if not summary.accepted:
        return "Failed: no request was accepted."
    if summary.lost:
        return f"Failed: {summary.lost:,} of {summary.accepted:,} accepted requests were lost."
    refused = f"; {summary.refused:,} were refused" if summary.refused else ""
    return (
        f"Kept: each of {summary.accepted:,} accepted requests has ended, none was lost{refused}."
    )


def encode(run: Recorded) -> bytes:
    """Return the bytes of a run."""
    return msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n"


def decode(body: bytes) -> Recorded:
    """Return the run that some bytes hold. Raise ``ConfigurationError`` if it is none."""
    try:
        return msgspec.json.decode(body, type=Recorded)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"not the JSON of a run, as --report writes it: {error}"
        ) from error
