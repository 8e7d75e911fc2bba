"""The figures of all substations: an array for each kind, a place for each substation. Pure."""

from __future__ import annotations

from math import inf, nan
from typing import Final, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple
from numpy.typing import NDArray

from scheduling.substation_state import share_of

Array: TypeAlias = NDArray[np.float64]

DIGITS: Final = 9  # of a share of power: two sums that differ beyond are equal
FULL: Final = 1.0 + 10.0**-DIGITS


class Figures(Struct, frozen=True, gc=False):
    """What a decision needs of one substation.

    Args:
        share: (load + 1) ÷ places; infinite where its load is unknown, or it may be sent nothing.
        blind: The same where no page at all can be read.
        most: The largest share at which it may be sent a job.
        most_ahead: The same while others wait: one job may be dispatched ahead of a connector.
        open: The share where that is at most ``most``, else infinite.
        open_ahead: The share where that is at most ``most_ahead``, else infinite.
        power: Power ÷ rated power, or ÷ a lower limit that holds now.
        per_kw: What each kW of a job adds to that.
        background: The part of it that other consumers draw.
        rated: Rated power in kW, infinite where unknown.
        most_kw: What it may draw: the rated power, or a lower limit that holds now.
        gauge: The load as its page says.
        headroom: The power left, in kW.
        load: Sessions in progress and in flight; where only scrapes tell, as expected.
        power_kw: What sessions, jobs in flight and other consumers draw.
        asked_at: When the oldest of its gauges was asked for, in the tracker's seconds; not a
            number where its page cannot be read.
    """

    share: float = inf
    blind: float = inf
    most: float = 0.0
    most_ahead: float = 0.0
    open: float = inf
    open_ahead: float = inf
    power: float = 0.0
    per_kw: float = 0.0
    background: float = 0.0
    rated: float = inf
    most_kw: float = inf
    gauge: float = 0.0
    headroom: float = -inf
    load: float = 0.0
    power_kw: float = 0.0
    asked_at: float = nan

    def loaded(self, places: float, load: float, power_kw: float) -> Figures:
        """Return the figures with another load and power; an infinite share stays infinite."""
        share = blind = (load + 1.0) / places
        if self.share == inf:
            share = inf
        power, headroom, most_kw = 0.0, -inf, self.most_kw
        if most_kw < inf:
            power, headroom = round(share_of(power_kw, most_kw), DIGITS), most_kw - power_kw
        return Figures(
            share,
            inf if self.blind == inf else blind,
            self.most,
            self.most_ahead,
            share if share <= self.most else inf,
            share if share <= self.most_ahead else inf,
            power,
            self.per_kw,
            self.background,
            self.rated,
            most_kw,
            self.gauge,
            headroom,
            load,
            power_kw,
            self.asked_at,
        )

    def after(self, power_kw: float, *, ahead: bool) -> float:
        """Return the utilisation with a job placed there; infinite without capacity for it."""
        power = self.power + power_kw * self.per_kw
        return max(self.open_ahead if ahead else self.open, power) if power <= FULL else inf

    def opens(self, before: Figures) -> bool:
        """Return whether there may be capacity where there was none."""
        return (
            self.open_ahead < before.open_ahead
            or self.open < before.open
            or self.blind < before.blind
            or self.most > before.most
            or self.most_ahead > before.most_ahead
            or self.power < before.power
            or self.per_kw < before.per_kw
        )


class FigureTable:
    """The figures of ``count`` substations: each array is an attribute named as the figure is.

    The arrays cannot be written to but by ``write``: policies see them. ``figures`` has the same as
    plain numbers, for whoever asks of a single substation.
    """

    def __init__(self, count: int) -> None:
        self.figures = [Figures()] * count
        self._rows = np.tile(np.array([astuple(Figures())]).T, count)  # a row for each kind
        (
            self.share, self.blind, self.most, self.most_ahead, self.open, self.open_ahead,
            self.power, self.per_kw, self.background, self.rated, self.most_kw, self.gauge,
            self.headroom, self.load, self.power_kw, self.asked_at,
        ) = map(read_only, self._rows)  # fmt: skip

    def write(self, number: int, figures: Figures) -> None:
        """Write the figures of one substation."""
        self.figures[number] = figures
        self._rows[:, number] = astuple(figures)


def read_only(array: Array) -> Array:
    """Return a view of an array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
