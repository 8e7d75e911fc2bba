from __future__ import annotations

from collections import Counter

from bench.api_start import EVENTS_A_MESSAGE, history
from grid import events, provenance
from grid.events import State

JOBS = 10


def test_api_start_bench_writes_a_valid_event_log() -> None:
    """Each writer is believed, and each job goes from queued to completed at one substation."""
    found: dict[str, list[str]] = {}
    places: dict[str, set[str]] = {}
    sizes: Counter[int] = Counter()
    ids = set()
    for message in history(JOBS):
        read = events.decode(message.body)
        assert provenance.believed(read, message.key) == read
        sizes[len(read)] += 1
        ids.add(message.id)
        for each in read:
            found.setdefault(each.job, []).append(each.kind)
            places.setdefault(each.job, set()).add(each.substation)
    states = [State.QUEUED, State.ASSIGNED, State.CHARGING, State.COMPLETED]
    assert list(found.values()) == [states] * JOBS
    assert all(len(each - {""}) == 1 for each in places.values())
    assert sizes == Counter({EVENTS_A_MESSAGE: 8, JOBS % EVENTS_A_MESSAGE: 4})
    assert len(ids) == sum(sizes.values())
