"""Fixtures that the tests of the dispatcher share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dispatcher import parking, queue_edge, reclaim
from grid import event_log
from tests.dispatcher.reclaim_harness import BOUND, PERIOD


@pytest.fixture(scope="module")
def no_pauses() -> Iterator[None]:
    """Have delayed work done in the next turn of the loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parking, "RETRY_SECONDS", 0)
        patch.setattr(event_log, "TRIES", 1)
        yield


@pytest.fixture
def quick_reclaim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the reclaimer look often, and take few jobs at once."""
    monkeypatch.setattr(reclaim, "INTERVAL_SECONDS", PERIOD)
    monkeypatch.setattr(queue_edge, "IDLE_SECONDS", PERIOD / 2)
    monkeypatch.setattr(reclaim, "MAX_IN_HAND", BOUND)
