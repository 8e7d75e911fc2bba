from __future__ import annotations

import asyncio
from typing import cast

import pytest

from dispatcher import queues
from dispatcher.decision.ledger import NO_CONSUMER, Ledger
from dispatcher.queues import QueueKeeper
from dispatcher.readings import Reading
from grid.amqp import Declarer, QueueState
from grid.errors import BrokerUnavailable
from grid.events import Counts
from grid.topology import Queue
from tests.fake_broker import turns


class FakeDeclarer:
    """Gives each queue's state, or an error where there is none."""

    def __init__(self, **states: QueueState) -> None:
        self.up = asyncio.Event()
        self.up.set()
        self.states = states
        self.asked: list[str] = []

    async def queue(self, queue: Queue) -> QueueState:
        """Declare a queue."""
        self.asked.append(queue.key)
        if queue.key not in self.states:
            raise BrokerUnavailable(f"cannot declare {queue.name}: it is of another kind")
        return self.states[queue.key]


class Bench:
    """A keeper of the queues of some substations; its clock is the number of what was asked."""

    def __init__(self, declarer: FakeDeclarer, *names: str) -> None:
        self.declarer = declarer
        self.ledger = Ledger(stale_after=1e9, default_connectors=10)
        self.ledger.keep(dict.fromkeys(names))
        self.hurried: list[str] = []
        self.keeper = QueueKeeper(self.ledger, cast(Declarer, declarer), lambda: 5.0)
        self.keeper.sending = lambda _: 0
        self.keeper.hurry = self.hurried.append

    async def run(self) -> None:
        """Let it work for some turns of the loop."""
        task = asyncio.create_task(self.keeper.run())
        await turns(100)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def why_not(self, name: str) -> str | None:
        """Tell why nothing may be sent to a substation."""
        return self.ledger.ineligible(self.ledger.accounts[name], 5.0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PERIOD_SECONDS", "POLL_SECONDS", "PAUSE_SECONDS"):
        monkeypatch.setattr(queues, name, 0)


COUNTS = Counts(0, 3, 3, 0, 1.0)


async def test_one_queue_that_cannot_be_had_does_not_stop_the_others() -> None:
    """A queue of another kind keeps its substation out, with the reason, and no other."""
    bench = Bench(FakeDeclarer(s1=QueueState(0, 1), s3=QueueState(0, 1)), "s1", "s2", "s3")
    for name in bench.ledger.accounts:
        bench.keeper.missing(name)
        bench.ledger.read(name, Reading(0, counts=COUNTS), 1.0)
    await bench.run()
    assert {"s1", "s3"} <= set(bench.hurried)
    for name in ("s1", "s3"):
        bench.ledger.read(name, Reading(0, counts=COUNTS), 6.0)
        assert bench.why_not(name) is None
    assert "of another kind" in str(bench.why_not("s2"))


async def test_a_queue_that_can_be_had_again_is() -> None:
    """What is missing is tried until it is there."""
    declarer = FakeDeclarer()
    bench = Bench(declarer, "s1")
    bench.keeper.missing("s1")
    await bench.run()
    declarer.states["s1"] = QueueState(0, 1)
    await bench.run()
    before = len(declarer.asked)
    await bench.run()
    assert len(declarer.asked) == before


async def test_a_page_with_only_a_load_is_completed_by_its_queue() -> None:
    """Jobs that nobody has begun count as its load; without a consumer nothing is sent there."""
    declarer = FakeDeclarer(s1=QueueState(4, 1))
    bench = Bench(declarer, "s1")
    bench.ledger.read("s1", Reading(2), 1.0)
    await bench.run()
    assert bench.ledger.accounts["s1"].load == 6
    assert bench.why_not("s1") is None
    declarer.states["s1"] = QueueState(4, 0)
    await bench.run()
    assert bench.why_not("s1") == NO_CONSUMER
    declarer.states["s1"] = QueueState(0, 1)
    await bench.run()
    assert bench.why_not("s1") is None
