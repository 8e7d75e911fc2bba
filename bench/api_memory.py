"""``python -m bench.api_memory``: how much memory the api needs for a job, in full and packed."""

from __future__ import annotations

import tracemalloc
from random import Random
from typing import Final

from api.jobs.projection import Projection
from grid import events
from grid.events import Event, State
from grid.messages import ChargeRequest

JOBS: Final = 50_000
BEGIN: Final = 1_790_000_000.0


def memory_of(jobs: int, most: int) -> int:
    """Return the bytes for so many waiting jobs, at most ``most`` of them kept in full."""
    random = Random(1)  # noqa: S311
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        projection = Projection(most)
        for number in range(jobs):
            projection.apply(_queued(number, random))
        after, _ = tracemalloc.get_traced_memory()
        assert sum(projection.by_status.values()) == jobs  # noqa: S101
        return after - before
    finally:
        tracemalloc.stop()


def _queued(number: int, random: Random) -> Event:
    name = f"{random.getrandbits(128):032x}"
    at = BEGIN + number * 0.01 + random.random()
    energy = round(random.uniform(5, 80), 1)
    vehicle = f"EV-{random.randrange(10**6)}"
    request = ChargeRequest(name, at, vehicle_id=vehicle, requested_energy_kwh=energy)
    written = events.encode([Event(State.QUEUED, at, name, detail=request.fields())])
    (event,) = events.decode(written)  # as an api that reads the log keeps it
    return event


def main() -> None:
    """Print the bytes for each job."""
    for what, most in (("in full", JOBS), ("packed", 1)):
        print(f"{what:8} {memory_of(JOBS, most) / JOBS:8.0f} bytes a job")  # noqa: T201


if __name__ == "__main__":
    main()
