"""Reclaiming jobs from the queues of substations that do not consume them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from grid import parking
from grid.amqp import Delivery, QueueState
from grid.events import Event, State
from tests.dispatcher.reclaim_harness import BOUND, ReclaimHarness, at_work
from tests.fake_broker import turns
from tests.grid import links
from tests.grid.links import eventually

pytestmark = pytest.mark.usefixtures("quick_reclaim")


async def test_reclaimer_reclaims_jobs_of_dead_substation_in_order() -> None:
    """Each job is handed over once, and acknowledged only once it is safe elsewhere."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "a", "b", "c")
    harness.taker.put("s2", "x")
    async with at_work(harness):
        await harness.rounds()
        assert harness.handed == []
        harness.kill("s1")
        await harness.rounds()
        assert [(name, each.id) for name, each in harness.handed] == [
            ("s1", "a"),
            ("s1", "b"),
            ("s1", "c"),
        ]
        assert harness.handed[0][1].body == b"a"
        assert (harness.taker.acked, harness.in_hand()) == ([], ["a", "b", "c"])
        harness.deliveries()[1].ack()
        await eventually(lambda: harness.reclaimed, "it is counted")
        assert harness.taker.acked == ["b"]
        assert harness.reclaimed == {"s1": 1}
        await harness.rounds()
    assert harness.jobs() == ["a", "b", "c"]
    assert harness.taker.requeued == []


async def test_reclaimer_counts_job_that_is_safe_at_once() -> None:
    """The receiver may acknowledge a job before it returns that it accepts it."""
    harness = ReclaimHarness("s1", "s2")

    def reclaim(_: str, delivery: Delivery) -> bool:
        delivery.ack()
        return True

    harness.on_reclaim = reclaim
    harness.taker.put("s1", *"abcdefgh")
    harness.kill("s1")
    async with at_work(harness):
        await eventually(lambda: harness.taker.acked == list("abcdefgh"), "all are done")
        await eventually(lambda: harness.reclaimed.total() == 8, "all are counted")
    assert harness.reclaimed == {"s1": 8}
    assert not harness.hand.holds("s1")


async def test_reclaimer_holds_no_more_jobs_than_its_maximum() -> None:
    """Each job that is safe elsewhere makes room for one more."""
    harness = ReclaimHarness("s1", "s2", "s3")
    harness.taker.put("s1", *[f"a{number}" for number in range(20)])
    harness.taker.put("s2", *[f"b{number}" for number in range(20)])
    harness.kill("s1")
    harness.kill("s2")
    async with at_work(harness):
        for finished in range(40):
            expected = min(40, finished + BOUND)
            await eventually(lambda e=expected: len(harness.handed) == e, "as many as agreed")  # type: ignore[misc]
            assert len(harness.in_hand()) <= BOUND
            harness.deliveries()[finished].ack()
        await eventually(lambda: harness.reclaimed.total() == 40, "all are counted")
    assert harness.reclaimed == {"s1": 20, "s2": 20}
    assert len(set(harness.jobs())) == 40


async def test_reclaimed_jobs_name_substations_whose_jobs_are_in_hand() -> None:
    """Such a queue may look empty, but a link that breaks puts the jobs back into it."""
    harness = ReclaimHarness("s1", "s2", "s3")
    harness.taker.put("s1", "a")
    harness.taker.put("s2", "charging")
    harness.index.apply(Event(State.CHARGING, 1.0, job="charging", substation="s2", attempt=1))
    harness.kill("s1")
    harness.state("s2", reachable=False, consumers=1)
    async with at_work(harness):
        await eventually(lambda: len(harness.taker.outstanding) == 2, "both are taken")
        held = [harness.hand.holds(name) for name in ("s1", "s2", "s3")]
        assert held == [True, True, False]
        harness.deliveries()[0].ack()
        assert not harness.hand.holds("s1")


async def test_reclaimer_returns_jobs_while_another_dispatcher_is_active() -> None:
    """That one cannot know of them; jobs already in flight stay until they are safe."""
    harness = ReclaimHarness("s1", "s2", "s3")
    harness.taker.put("s1", "a", "b")
    harness.taker.put("s2", "charging")
    harness.charges("charging", "s2")
    harness.kill("s1")
    harness.state("s2", reachable=False, consumers=1)
    async with at_work(harness):
        await eventually(lambda: len(harness.taker.outstanding) == 3, "all are taken")
        harness.given_back = harness.deliveries()[:1]  # the other one is on its way
        harness.at_work = False
        await eventually(
            lambda: sorted(map(str, harness.taker.requeued)) == ["a", "charging"], "back"
        )
        assert harness.in_hand() == ["b"]
        harness.deliveries()[1].ack()
        await turns()
        assert harness.taker.acked == ["b"]


async def test_reclaimer_acknowledges_job_that_ended_long_ago() -> None:
    """The newest events say nothing of it any more, but the whole log does."""
    harness = ReclaimHarness("s1", "s2")
    harness.open_jobs.take(Event(State.COMPLETED, 1.0, "a", "s1"), 0)
    harness.taker.put("s1", "a", "b")
    harness.kill("s1")
    async with at_work(harness):
        await eventually(lambda: harness.jobs() == ["b"], "only the other one is handed over")
    assert harness.taker.acked == ["a"]


async def test_reclaimer_empties_queues_in_turn() -> None:
    """A long queue does not keep a short one waiting until it is empty."""
    harness = ReclaimHarness("s1", "s2", "s3")
    harness.taker.put("s1", *[f"a{number}" for number in range(50)])
    harness.taker.put("s2", "b")
    harness.kill("s1")
    harness.kill("s2")
    async with at_work(harness):
        while len(harness.handed) < 51:
            handed = len(harness.handed)
            for each in harness.deliveries():
                each.ack()
            await eventually(lambda h=handed: len(harness.handed) > h, "more are taken")  # type: ignore[misc]
    assert harness.jobs().index("b") <= 2 * BOUND


async def test_reclaimer_begins_each_interval_with_another_queue() -> None:
    """If jobs become safe slowly, an interval has time for one queue: for another each time."""
    harness = ReclaimHarness("s1", "s2", "s3")

    def look(name: str) -> QueueState | None:
        for each in harness.deliveries():  # what a period took is safe when the next one begins
            each.ack()
        return harness.look(name)

    harness.on_look = look
    harness.taker.put("s1", *[f"a{number}" for number in range(50)])
    harness.taker.put("s2", "b")
    harness.kill("s1")
    harness.kill("s2")
    async with at_work(harness):
        await eventually(lambda: "b" in harness.jobs(), "the other one has its turn")
    assert harness.jobs().index("b") <= 2 * BOUND


async def test_reclaimer_leaves_jobs_that_can_go_nowhere_else() -> None:
    """A job is safer in its queue than in a dispatcher's memory."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "a", "b")
    harness.kill("s1")
    harness.elsewhere = False
    async with at_work(harness):
        await harness.rounds()
        assert harness.taker.asked == []
        harness.elsewhere = True
        await eventually(lambda: harness.jobs() == ["a", "b"], "they are reclaimed")


async def test_reclaimer_leaves_empty_queue_alone() -> None:
    """A substation that is gone for days costs one look a second, and no log line."""
    harness = ReclaimHarness("s1", "s2")
    harness.kill("s1")
    async with at_work(harness):
        await harness.rounds(6)
    assert harness.taker.asked == []


async def test_reclaimer_returns_refused_job_to_its_queue() -> None:
    """The queue is left alone until the next look."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "a", "b")
    harness.kill("s1")
    harness.willing = False
    async with at_work(harness):
        await eventually(lambda: harness.taker.requeued, "it goes back")
        assert harness.in_hand() == []
        harness.willing = True
        await eventually(lambda: harness.in_hand() == ["a", "b"], "it is taken later")
    assert harness.jobs()[-2:] == ["a", "b"]
    assert set(harness.jobs()[:-1]) == {"a"}
    assert harness.taker.acked == []


async def test_reclaimer_hands_over_message_without_id() -> None:
    """The receiver handles it."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", None)
    harness.kill("s1")
    async with at_work(harness):
        await eventually(lambda: harness.jobs() == [None], "it is handed over")


async def test_reclaimer_forgets_deliveries_when_link_breaks() -> None:
    """They are delivered again, as other deliveries."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "own", "a", "b")
    harness.charges("own", "s1")
    harness.state("s1", reachable=True, consumers=0)
    async with at_work(harness):
        await eventually(lambda: harness.in_hand() == ["a", "b"], "they are in hand")
        old = harness.deliveries()
        harness.taker.break_link()
        assert (harness.forgotten, harness.hand.holds("s1")) == (1, False)
        await eventually(lambda: harness.in_hand() == ["a", "b"], "they are in hand again")
        for each in old:
            each.ack()
        await harness.rounds()
        assert (harness.taker.acked, harness.reclaimed) == ([], {})
        for each in harness.deliveries()[2:]:
            each.ack()
        await turns()
        assert harness.taker.acked == ["a", "b"]
    assert harness.jobs() == ["a", "b", "a", "b"]


async def test_reclaimer_waits_for_consumers_after_link_broke() -> None:
    """RabbitMQ has no consumers just after it was away, which does not mean that any is dead."""
    harness = ReclaimHarness("s1", "s2", failure_detector=20)  # looks
    harness.taker.put("s1", "a")
    harness.state("s1", reachable=True, consumers=0)
    async with at_work(harness):
        await eventually(lambda: harness.jobs() == ["a"], "long after the start it is reclaimed")
        harness.kill("s1")
        harness.taker.break_link()
        await harness.rounds(10)
        assert harness.jobs() == ["a"]
        await eventually(lambda: harness.jobs() == ["a", "a"], "it is reclaimed again")


async def test_reclaimer_logs_broker_error_once_and_tries_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same line every second would fill the log."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "a")
    harness.kill("s1")
    harness.taker.problem = "cannot take from substation.s1: it is locked"
    with caplog.at_level(logging.WARNING):
        async with at_work(harness):
            await harness.rounds(6)
            harness.taker.problem = ""
            await eventually(lambda: harness.jobs() == ["a"], "it is reclaimed")
    said = [each.getMessage() for each in caplog.records]
    wrong = [each for each in said if each.startswith("no jobs are reclaimed")]
    assert wrong == ["no jobs are reclaimed: cannot take from substation.s1: it is locked"]


async def test_reclaimer_logs_begin_and_number_of_jobs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two lines for a dead substation, however many jobs waited for it."""
    harness = ReclaimHarness("s1", "s2", failure_detector=5)
    harness.taker.put("s1", *"abcd")
    with caplog.at_level(logging.WARNING):
        async with at_work(harness):
            await harness.rounds(10)  # long after the start
            harness.kill("s1")
            await harness.rounds(8)
    assert [each.getMessage() for each in caplog.records] == [
        "reclaiming the jobs that wait for s1: "
        "its page cannot be read, and its queue has no consumer",
        "reclaimed 4 jobs that waited for s1",
    ]


async def test_reclaimer_logs_number_of_jobs_when_substation_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The jobs that are left in its queue are its own again."""
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", *"abcdefgh")
    harness.kill("s1")
    with caplog.at_level(logging.WARNING):
        async with at_work(harness):
            await harness.rounds()
            harness.state("s1", reachable=True, consumers=1)
            await harness.rounds()
    assert caplog.records[-1].getMessage() == f"reclaimed {BOUND} jobs that waited for s1"
    assert len(harness.taker.queues["s1"]) == 8 - BOUND


async def test_reclaimer_rejects_job_over_which_an_error_is_raised() -> None:
    """The service ends; the poison message must not reach the next process too."""
    harness = ReclaimHarness("s1", "s2")

    def reclaim(_: str, __: Delivery) -> bool:
        raise KeyError("some mistake")

    harness.on_reclaim = reclaim
    harness.taker.put("s1", "poison")
    harness.kill("s1")
    with pytest.raises(KeyError):
        await asyncio.wait_for(harness.reclaim.run(), links.TIMEOUT)
    assert harness.taker.rejected == ["poison"]


async def test_reclaimer_rejects_job_whose_headers_raise_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise each process that starts would take it again, and end."""

    def replays(_: object) -> int:
        raise KeyError("some mistake")

    monkeypatch.setattr(parking, "replays", replays)
    harness = ReclaimHarness("s1", "s2")
    harness.taker.put("s1", "poison")
    harness.kill("s1")
    with pytest.raises(KeyError):
        await asyncio.wait_for(harness.reclaim.run(), links.TIMEOUT)
    assert harness.taker.rejected == ["poison"]
