"""How well the api foretold when waiting jobs begin. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Final, NamedTuple

from load_test.records import Job

TOLERANCE: Final = 0.2  # of the time that was left
SHORTEST: Final = 1.0  # seconds that were left: of less, nobody needs a forecast


class Forecast(NamedTuple):
    """When a job was expected to begin, and when that was said, in Unix seconds."""

    said_at: float
    start: float


class Accuracy(NamedTuple):
    """How good forecasts were; None where there is none to judge.

    ``error`` is the median difference from the real start in seconds, ``share`` is that of the
    forecasts which were right to a fifth of the time that was left.
    """

    error: float | None = None
    share: float | None = None


def accuracy(jobs: Iterable[Job], forecasts: Mapping[str, Forecast]) -> Accuracy:
    """Compare the first forecast of each job with what happened."""
    errors: list[tuple[float, float]] = []  # and how much time was left
    for job in jobs:
        said = forecasts.get(job.id)
        if said is None or job.charging is None or job.charging - said.said_at < SHORTEST:
            continue
        errors.append((abs(said.start - job.charging), job.charging - said.said_at))
    if not errors:
        return Accuracy()
    right = sum(error <= TOLERANCE * left for error, left in errors)
    return Accuracy(median(error for error, _ in errors), right / len(errors))
