"""How much power substations may draw over time, as operators have set it. Pure.

Times are Unix seconds, whoever asks. A limit is a function of time with steps: a block holds from
its start until just before its end, and the fallback wherever no block does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Final, NamedTuple

from grid.controls import PowerLimits
from scheduling.reasons import LIMITED

SHOWN_SECONDS: Final = 86_400.0  # so long before it begins, a lower limit is shown
USUAL_SESSION_SECONDS: Final = 3600.0  # where neither the job nor its substation tells
TOLERANCE: Final = 1.0 + 1e-9  # two sums of powers that differ less are equal


def usual_seconds(mean: float | None) -> float:
    """Return how long a session takes by the mean at its substation, or usually."""
    return USUAL_SESSION_SECONDS if mean is None else mean


class Step(NamedTuple):
    """A limit in kW, infinite where there is none: when it begins and ends, and who set it."""

    start: float
    end: float
    kw: float
    source: str
    is_fallback: bool

    def in_words(self, clock: float) -> str:
        """Return it in words, as seen at a time, so that it reads well after "is"."""
        by = f"by {self.source} (fallback)" if self.is_fallback else f"by {self.source}"
        if self.start > clock:
            when = f" from {_time(self.start, clock)}"
        else:
            when = "" if self.end == inf else f" until {_time(self.end, clock)}"
        return f"{LIMITED}{self.kw:g} kW{when} {by}"


@dataclass(slots=True)
class LimitSteps:
    """The limit of one substation as a function of time: steps without gaps, from −∞ to ∞."""

    limits: InitVar[PowerLimits]
    steps: tuple[Step, ...] = field(init=False)
    _starts: list[float] = field(init=False)

    def __post_init__(self, limits: PowerLimits) -> None:
        self.steps = _steps(limits)
        self._starts = [each.start for each in self.steps]

    def at(self, clock: float) -> Step:
        """Return the limit that holds at a time."""
        return self.steps[bisect_right(self._starts, clock) - 1]

    def lowest_between(self, start: float, end: float) -> float:
        """Return the lowest limit from ``start`` until just before ``end``, in kW.

        That at ``start`` counts in any case.
        """
        return min(each.kw for each in self._between(start, end))

    def next_lower(self, clock: float) -> Step | None:
        """Return the first limit that begins within a day and is lower than that which holds."""
        now, *later = self._between(clock, clock + SHOWN_SECONDS)
        return next((each for each in later if each.kw < now.kw), None)

    def first_below(self, power_kw: float, start: float, end: float = inf) -> Step | None:
        """Return the first limit between two times that so much power crosses, or None."""
        between = self._between(start, end)
        return next((each for each in between if power_kw > each.kw * TOLERANCE), None)

    def _between(self, start: float, end: float) -> Iterator[Step]:
        first = bisect_right(self._starts, start) - 1
        yield self.steps[first]
        for step in self.steps[first + 1 :]:
            if step.start >= end:
                return
            yield step


def _time(at: float, clock: float) -> str:
    """Return a time of day, with its date unless that is today's, in UTC."""
    moment, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(clock, UTC).date()
    day = "" if moment.date() == today else "%Y-%m-%d "
    return moment.strftime(f"{day}%H:%M{':%S' if moment.second else ''} UTC")


def _steps(limits: PowerLimits) -> tuple[Step, ...]:
    fallback_kw = inf if limits.fallback_kw is None else limits.fallback_kw
    # when each begins; a gap between two blocks is the fallback's, unless it is empty
    found: list[tuple[float, float, bool]] = [(-inf, fallback_kw, True)]
    for block in limits.blocks:
        if found[-1][0] == block.start:
            found.pop()
        found += [(block.start, block.kw, False), (block.end, fallback_kw, True)]
    merged = [
        each for before, each in zip([None, *found], found, strict=False)
        if before is None or before[1:] != each[1:]
    ]  # fmt: skip
    ends = [each[0] for each in merged[1:]] + [inf]
    return tuple(
        Step(start, end, kw, limits.source, fallback)
        for (start, kw, fallback), end in zip(merged, ends, strict=True)
    )
