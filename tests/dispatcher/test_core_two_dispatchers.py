"""Two dispatchers in turn: what one remembers, the other may have changed since."""

from __future__ import annotations

import pytest

from dispatcher.inputs import ReclaimDue
from dispatcher.jobs import RECLAIMED_HEADER
from dispatcher.requeue_overflow import RECLAIMED_SECONDS
from grid import topology
from grid.events import Event, State
from scheduling.load_tracker import SETTLE_SECONDS
from tests.dispatcher.harness import AT, Harness, body, confirming
from tests.fake_broker import turns

pytestmark = pytest.mark.usefixtures("no_pauses")
HOUR = 3600.0


class Pair:
    """Two that read the same event log."""

    def __init__(self, *substations: str, connectors: int = 10) -> None:
        self.first = Harness(confirming(), *substations, connectors=connectors)
        self.second = Harness(confirming(), *substations, connectors=connectors)
        self._told = {self.first: 0, self.second: 0}

    async def settle(self) -> None:
        """Let both work, and read what either has written."""
        await turns()
        for writer, known in self._told.items():
            events = writer.publisher.events()
            self._told[writer] = len(events)
            for reader in self._told:
                reader.read_events(*events[known:])

    async def sends(self, one: Harness, job: bytes) -> str:
        """Have one of them send a new job; names where to."""
        one.queue.bring(job, "j1")
        await self.settle()
        return one.publisher.routed()[-1][1]

    async def moves(self, one: Harness, job: bytes, substation: str) -> str | None:
        """Have one of them take it back from a substation that dies; names where it goes."""
        before = len(one.publisher.routed())
        one.fail_page(substation)
        assert one.reclaim.deliver(substation, job, "j1")
        await self.settle()
        after = one.publisher.routed()
        return after[-1][1] if len(after) > before else None


async def test_core_sends_request_that_another_reclaimed_twice_and_requeued() -> None:
    """Its header names another substation than the one remembered here: there is no copy."""
    pair, job = Pair("s1", "s2", "s3"), body("j1", "s1", "s2")
    where = await pair.sends(pair.first, job)
    other = await pair.moves(pair.second, job, where)
    assert other not in (None, where)
    assert await pair.moves(pair.second, job, str(other)) is None
    pair.second.now += RECLAIMED_SECONDS + 1
    pair.second.shell.tick()
    await pair.settle()
    (back,) = pair.second.publisher.to(topology.REQUESTS)
    pair.first.queue.bring(back.body, "j1", headers=back.headers)
    await pair.settle()
    assert len(pair.first.publisher.routed()) == 2


async def test_core_sends_only_one_of_two_copies_of_requeued_request() -> None:
    """The header names where the job was before it was sent from here."""
    pair, job = Pair("s1", "s2"), body("j1")
    where = await pair.sends(pair.first, job)
    pair.second.fail_page(where)
    for _ in range(2):
        pair.second.queue.bring(job, "j1", headers={RECLAIMED_HEADER: where})
        await pair.settle()
    assert len(pair.second.publisher.routed()) == 1
    assert sorted(pair.second.queue.acked) == [1, 2]


async def test_core_does_not_lose_a_job_that_two_leave_to_each_other() -> None:
    """One has sent it, though the log does not say so; the other has its request, and its copy."""
    pair, job = Pair("s1", "s2", connectors=2), body("j1")
    first, second = pair.first, pair.second
    second.read_older_events()
    first.read("s2", load=2)
    first.queue.bring(job, "j1")
    await turns()
    assert first.publisher.routed() == [("j1", "s1")]
    second.fail_page("s1")
    second.read("s2", load=2)
    second.queue.bring(job, "j1", again=True)  # the acknowledgement was lost
    await turns()
    assert second.core.waiting == 1
    second.find_dead("s1")
    assert second.reclaim.deliver("s1", job, "j1")
    second.queue.break_link()
    first.queue.bring(job, "j1", again=True)
    await turns()
    assert first.queue.acked == [1, 2], "it was sent from there"
    second.shell.feed(ReclaimDue(is_fed=True))
    second.read("s2", load=0)
    await turns()
    assert second.publisher.routed() == [("j1", "s2")]


@pytest.mark.parametrize("ahead", [0.0, HOUR, -AT / 2])
async def test_core_keeps_only_copy_when_clocks_differ(ahead: float) -> None:
    """The order in the log also shows which decision was later."""
    pair, job = Pair("s1", "s2", "s3"), body("j1", "s1", "s2", "s3")
    pair.first.at, pair.second.at = AT + ahead, AT + 10
    where = await pair.sends(pair.first, job)
    other = await pair.moves(pair.second, job, where)
    assert other not in (None, where)
    assert await pair.moves(pair.first, job, str(other)) not in (None, other)
    assert pair.first.reclaim.acked == [1]


async def test_core_sends_second_copy_from_api_where_the_job_is() -> None:
    """An api publishes again after its link broke; the substation recognises the second copy."""
    for _ in range(5):
        harness = Harness(confirming(), "s1", "s2")
        harness.read("s1", load=1)
        harness.read_events(Event(State.ASSIGNED, AT, job="j1", substation="s1", attempt=1))
        harness.queue.bring(body("j1"), "j1")
        await turns()
        assert harness.publisher.routed() == [("j1", "s1")]


async def test_core_ignores_where_job_was_before_it_was_requested_again() -> None:
    """A client may use an id again, and allow another substation now."""
    harness = Harness(confirming(), "s1", "s2")
    harness.read_events(Event(State.ASSIGNED, AT - 5, job="j1", substation="s1", attempt=1))
    harness.read_events(Event(State.PARKED, AT - 4, job="j1", substation="s1"))
    harness.now += SETTLE_SECONDS  # it has just begun, and waits for the baseline of s1
    harness.queue.bring(body("j1", "s2"), "j1")
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
