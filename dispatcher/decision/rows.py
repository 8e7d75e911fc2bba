"""The figures of all substations: a row for each kind, a column for each substation. Pure."""

from __future__ import annotations

from math import inf, nan
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Row: TypeAlias = NDArray[np.float64]


class Figures(NamedTuple):
    """What a decision needs of one substation.

    ``share`` is (load + 1) ÷ places, infinite where nothing may be sent; ``blind`` is the same
    where no page can be read at all. A job may be sent up to a share of ``most``, or of ``ahead``
    while others wait. ``power`` is power ÷ rated power, to which a job adds ``per_kw`` for each kW,
    and of which ``alone`` is drawn by other consumers; ``rated`` is infinite where unknown.
    ``gauge`` is the load as read, ``headroom`` the power left in kW, ``asked_at`` when the oldest
    of its gauges was asked for, in the ledger's seconds, or not a number where its page cannot be
    read.
    """

    share: float = inf
    blind: float = inf
    most: float = 0.0
    ahead: float = 0.0
    power: float = 0.0
    per_kw: float = 0.0
    alone: float = 0.0
    rated: float = inf
    gauge: float = 0.0
    headroom: float = -inf
    asked_at: float = nan

    def opens(self, before: Figures) -> bool:
        """Tell whether there may be room where there was none."""
        return (
            self.share < before.share
            or self.blind < before.blind
            or self.most > before.most
            or self.ahead > before.ahead
            or self.power < before.power
            or self.per_kw < before.per_kw
        )


class Rows:
    """The figures of ``count`` substations; each row is an attribute named as the figure is."""

    def __init__(self, count: int) -> None:
        self.figures = [Figures()] * count
        self._rows = [np.full(count, each) for each in Figures()]
        (
            self.share, self.blind, self.most, self.ahead, self.power, self.per_kw,
            self.alone, self.rated, self.gauge, self.headroom, self.asked_at,
        ) = self._rows  # fmt: skip

    def write(self, number: int, figures: Figures) -> None:
        """Take in the figures of one substation."""
        before, self.figures[number] = self.figures[number], figures
        for row, value, known in zip(self._rows, figures, before, strict=True):
            if value != known:
                row[number] = value
