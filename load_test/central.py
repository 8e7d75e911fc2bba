"""The ideal: one central queue, which no policy without the durations can beat. Pure."""

from __future__ import annotations

from heapq import heapreplace

from load_test.simulate.scenario import Trace


def floor_waits(trace: Trace, connectors: int) -> list[float]:
    """Return each job's wait, in s, with one queue in front of all connectors, told at once."""
    free_at = [0.0] * connectors
    waits = []
    for arrival, duration in zip(*trace, strict=True):
        start = max(arrival, free_at[0])
        heapreplace(free_at, start + duration)
        waits.append(start - arrival)
    return waits
