"""How far a run is: one value, which every view shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from grid.events import ENDED, State
from load_test.waits import Percentiles


class Progress(NamedTuple):
    """How far a run is, so many ``seconds`` after its start.

    While ``sending``, requests are sent; then their ends are awaited. ``requests`` are planned, of
    which so many are ``answered``. ``states`` are those of the accepted ones at the last look, when
    the substations had the ``loads`` (sessions and jobs in flight), and so many had been ``routed``
    to each. ``answers`` are the latencies of the last answers, ``waiting`` the jobs that waited at
    each of the last looks.
    """

    seconds: float
    sending: bool
    requests: int
    answered: int
    refused: int
    states: Mapping[State, int]
    loads: Mapping[str, float | None]
    routed: Mapping[str, int]
    answers: Percentiles | None
    waiting: tuple[int, ...]

    @property
    def accepted(self) -> int:
        """Return how many requests were accepted."""
        return self.answered - self.refused

    @property
    def ended(self) -> int:
        """Return how many of the accepted requests have ended."""
        return sum(self.states.get(state, 0) for state in ENDED)
