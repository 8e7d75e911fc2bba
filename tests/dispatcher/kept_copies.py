"""A dispatcher that keeps the copy of a waiting job, taken from the queue of a dead substation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dispatcher.commands import LookAtQueue
from dispatcher.inputs import QueueObserved, ReclaimDue
from dispatcher.requeue_overflow import MAX_HELD_SECONDS
from grid import topology
from grid.amqp import Outcome, QueueState
from tests.dispatcher.harness import Harness, body, confirming
from tests.fake_broker import FakePublisher, turns

JOB = body("j1")


async def with_copy(
    *others: str,
    job: bytes = JOB,
    id: str | None = "j1",
    headers: Mapping[str, Any] = MappingProxyType({}),
    publisher: FakePublisher | None = None,
) -> Harness:
    """Return a harness where j1 waits, all are full, s1 is dead, and its copy was taken there.

    ``id`` is that of the copy, ``headers`` are those of the request.
    """
    harness = Harness(publisher or confirming(), "s1", "s2", *others, connectors=2)
    harness.read_older_events()
    harness.fail_page("s1")
    fill(harness, "s2", *others)
    harness.queue.bring(job, "j1", again=True, headers=headers)
    await turns()
    assert harness.core.waiting == 1
    harness.find_dead("s1")
    assert harness.reclaim.deliver("s1", job, id)
    return harness


def fill(harness: Harness, *names: str) -> None:
    """Have all connectors of substations in use."""
    for name in names:
        harness.read(name, load=2)


def come_back(harness: Harness) -> None:
    """Have s1 come back, with all of its connectors in use."""
    fill(harness, "s1")
    harness.shell.feed(QueueObserved(LookAtQueue("s1"), QueueState(ready=0, consumers=1)))
    harness.now += 1.1


async def settle(harness: Harness) -> list[object]:
    """Have the core look at what is kept; return its commands."""
    commands = harness.shell.feed(ReclaimDue(is_fed=True))
    await turns()
    return [*commands]


def become_passive(harness: Harness, how: str) -> None:
    """Have the core learn that another dispatcher may be active."""
    if how == "standby":
        harness.standby.heard("other", harness.now)
    harness.shell.feed(ReclaimDue(is_fed=how == "standby"))


async def refuse_requeue(harness: Harness, again: Mapping[str, Any], load: int = 2) -> None:
    """Have the requeue of j1 refused, once its request was delivered again by another way.

    ``again`` are the headers of that, ``load`` is what s2 has by then.
    """
    del harness.publisher.automatic[topology.REQUESTS]
    harness.now += MAX_HELD_SECONDS + 1
    fill(harness, "s2")
    harness.shell.tick()
    await turns()
    harness.queue.bring(JOB, "j1", headers=again)
    await turns()
    harness.read("s2", load=load)
    await turns()
    harness.publisher.answer(topology.REQUESTS_EXCHANGE, Outcome.REFUSED)
    await turns()


async def redeliver(harness: Harness, headers: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Have the link of requests break, and the request of j1 delivered again, to wait."""
    harness.queue.break_link()
    harness.queue.bring(JOB, "j1", again=True, headers=headers)
    await turns()
    harness.now += 30.0  # by then the substations have written what they began
    harness.shell.tick()
    await turns()
    fill(harness, "s2")
