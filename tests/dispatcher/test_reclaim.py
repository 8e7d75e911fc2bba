"""Taking back the jobs that wait for a substation in vain."""

from __future__ import annotations

import asyncio
import logging

import pytest

from grid import parking
from grid.amqp import Delivery, QueueState
from grid.events import Event, State
from tests.dispatcher.reclaim_harness import BOUND, Bench, at_work
from tests.fake_broker import turns
from tests.grid import links
from tests.grid.links import eventually

pytestmark = pytest.mark.usefixtures("quick_reclaim")


async def test_reclaimer_reclaims_jobs_of_dead_substation_in_order() -> None:
    """Each job is handed over once, and acknowledged only once it is safe elsewhere."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "a", "b", "c")
    bench.taker.put("s2", "x")
    async with at_work(bench):
        await bench.rounds()
        assert bench.handed == []
        bench.kill("s1")
        await bench.rounds()
        assert [(name, each.id) for name, each in bench.handed] == [
            ("s1", "a"),
            ("s1", "b"),
            ("s1", "c"),
        ]
        assert bench.handed[0][1].body == b"a"
        assert (bench.taker.acked, bench.in_hand()) == ([], ["a", "b", "c"])
        bench.deliveries()[1].ack()
        await eventually(lambda: bench.reclaimed, "it is counted")
        assert bench.taker.acked == ["b"]
        assert bench.reclaimed == {"s1": 1}
        await bench.rounds()
    assert bench.jobs() == ["a", "b", "c"]
    assert bench.taker.requeued == []


async def test_reclaimer_counts_job_that_is_safe_at_once() -> None:
    """The receiver may acknowledge a job before it returns that it accepts it."""
    bench = Bench("s1", "s2")

    def reclaim(_: str, delivery: Delivery) -> bool:
        delivery.ack()
        return True

    bench.on_reclaim = reclaim
    bench.taker.put("s1", *"abcdefgh")
    bench.kill("s1")
    async with at_work(bench):
        await eventually(lambda: bench.taker.acked == list("abcdefgh"), "all are done")
        await eventually(lambda: bench.reclaimed.total() == 8, "all are counted")
    assert bench.reclaimed == {"s1": 8}
    assert not bench.hand.holds("s1")


async def test_reclaimer_holds_no_more_jobs_than_its_maximum() -> None:
    """Each job that is safe elsewhere makes room for one more."""
    bench = Bench("s1", "s2", "s3")
    bench.taker.put("s1", *[f"a{number}" for number in range(20)])
    bench.taker.put("s2", *[f"b{number}" for number in range(20)])
    bench.kill("s1")
    bench.kill("s2")
    async with at_work(bench):
        for finished in range(40):
            expected = min(40, finished + BOUND)
            await eventually(lambda e=expected: len(bench.handed) == e, "as many as agreed")  # type: ignore[misc]
            assert len(bench.in_hand()) <= BOUND
            bench.deliveries()[finished].ack()
        await eventually(lambda: bench.reclaimed.total() == 40, "all are counted")
    assert bench.reclaimed == {"s1": 20, "s2": 20}
    assert len(set(bench.jobs())) == 40


async def test_reclaimed_jobs_name_substations_whose_jobs_are_in_hand() -> None:
    """Such a queue may look empty, but a link that breaks puts the jobs back into it."""
    bench = Bench("s1", "s2", "s3")
    bench.taker.put("s1", "a")
    bench.taker.put("s2", "charging")
    bench.index.apply(Event(State.CHARGING, 1.0, job="charging", substation="s2", attempt=1))
    bench.kill("s1")
    bench.state("s2", reachable=False, consumers=1)
    async with at_work(bench):
        await eventually(lambda: len(bench.taker.outstanding) == 2, "both are taken")
        held = [bench.hand.holds(name) for name in ("s1", "s2", "s3")]
        assert held == [True, True, False]
        bench.deliveries()[0].ack()
        assert not bench.hand.holds("s1")


async def test_reclaimer_returns_jobs_while_another_dispatcher_is_active() -> None:
    """That one cannot know of them; jobs already in flight stay until they are safe."""
    bench = Bench("s1", "s2", "s3")
    bench.taker.put("s1", "a", "b")
    bench.taker.put("s2", "charging")
    bench.charges("charging", "s2")
    bench.kill("s1")
    bench.state("s2", reachable=False, consumers=1)
    async with at_work(bench):
        await eventually(lambda: len(bench.taker.outstanding) == 3, "all are taken")
        bench.given_back = bench.deliveries()[:1]  # the other one is on its way
        bench.at_work = False
        await eventually(
            lambda: sorted(map(str, bench.taker.requeued)) == ["a", "charging"], "back"
        )
        assert bench.in_hand() == ["b"]
        bench.deliveries()[1].ack()
        await turns()
        assert bench.taker.acked == ["b"]


async def test_reclaimer_acknowledges_job_that_ended_long_ago() -> None:
    """The newest events say nothing of it any more, but the whole log does."""
    bench = Bench("s1", "s2")
    bench.open_jobs.take(Event(State.COMPLETED, 1.0, "a", "s1"), 0)
    bench.taker.put("s1", "a", "b")
    bench.kill("s1")
    async with at_work(bench):
        await eventually(lambda: bench.jobs() == ["b"], "only the other one is handed over")
    assert bench.taker.acked == ["a"]


async def test_reclaimer_empties_queues_in_turn() -> None:
    """A long queue does not keep a short one waiting until it is empty."""
    bench = Bench("s1", "s2", "s3")
    bench.taker.put("s1", *[f"a{number}" for number in range(50)])
    bench.taker.put("s2", "b")
    bench.kill("s1")
    bench.kill("s2")
    async with at_work(bench):
        while len(bench.handed) < 51:
            handed = len(bench.handed)
            for each in bench.deliveries():
                each.ack()
            await eventually(lambda h=handed: len(bench.handed) > h, "more are taken")  # type: ignore[misc]
    assert bench.jobs().index("b") <= 2 * BOUND


async def test_reclaimer_begins_each_interval_with_another_queue() -> None:
    """If jobs become safe slowly, an interval has time for one queue: for another each time."""
    bench = Bench("s1", "s2", "s3")

    def look(name: str) -> QueueState | None:
        for each in bench.deliveries():  # what a period took is safe when the next one begins
            each.ack()
        return bench.look(name)

    bench.reclaim._look = look  # noqa: SLF001
    bench.taker.put("s1", *[f"a{number}" for number in range(50)])
    bench.taker.put("s2", "b")
    bench.kill("s1")
    bench.kill("s2")
    async with at_work(bench):
        await eventually(lambda: "b" in bench.jobs(), "the other one has its turn")
    assert bench.jobs().index("b") <= 2 * BOUND


async def test_reclaimer_leaves_jobs_that_can_go_nowhere_else() -> None:
    """A job is safer in its queue than in a dispatcher's memory."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "a", "b")
    bench.kill("s1")
    bench.elsewhere = False
    async with at_work(bench):
        await bench.rounds()
        assert bench.taker.asked == []
        bench.elsewhere = True
        await eventually(lambda: bench.jobs() == ["a", "b"], "they are taken back")


async def test_reclaimer_leaves_empty_queue_alone() -> None:
    """A substation that is gone for days costs one look a second, and no log line."""
    bench = Bench("s1", "s2")
    bench.kill("s1")
    async with at_work(bench):
        await bench.rounds(6)
    assert bench.taker.asked == []


async def test_reclaimer_returns_refused_job_to_its_queue() -> None:
    """The queue is left alone until the next look."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "a", "b")
    bench.kill("s1")
    bench.willing = False
    async with at_work(bench):
        await eventually(lambda: bench.taker.requeued, "it goes back")
        assert bench.in_hand() == []
        bench.willing = True
        await eventually(lambda: bench.in_hand() == ["a", "b"], "it is taken later")
    assert bench.jobs()[-2:] == ["a", "b"]
    assert set(bench.jobs()[:-1]) == {"a"}
    assert bench.taker.acked == []


async def test_reclaimer_hands_over_message_without_id() -> None:
    """The receiver handles it."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", None)
    bench.kill("s1")
    async with at_work(bench):
        await eventually(lambda: bench.jobs() == [None], "it is handed over")


async def test_reclaimer_forgets_deliveries_when_link_breaks() -> None:
    """They are delivered again, as other deliveries."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "own", "a", "b")
    bench.charges("own", "s1")
    bench.state("s1", reachable=True, consumers=0)
    async with at_work(bench):
        await eventually(lambda: bench.in_hand() == ["a", "b"], "they are in hand")
        old = bench.deliveries()
        bench.taker.break_link()
        assert (bench.forgotten, bench.hand.holds("s1")) == (1, False)
        await eventually(lambda: bench.in_hand() == ["a", "b"], "they are in hand again")
        for each in old:
            each.ack()
        await bench.rounds()
        assert (bench.taker.acked, bench.reclaimed) == ([], {})
        for each in bench.deliveries()[2:]:
            each.ack()
        await turns()
        assert bench.taker.acked == ["a", "b"]
    assert bench.jobs() == ["a", "b", "a", "b"]


async def test_reclaimer_waits_for_consumers_after_link_broke() -> None:
    """RabbitMQ has no consumers just after it was away, which does not mean that any is dead."""
    bench = Bench("s1", "s2", failure_detector=20)  # looks
    bench.taker.put("s1", "a")
    bench.state("s1", reachable=True, consumers=0)
    async with at_work(bench):
        await eventually(lambda: bench.jobs() == ["a"], "long after the start it is taken back")
        bench.kill("s1")
        bench.taker.break_link()
        await bench.rounds(10)
        assert bench.jobs() == ["a"]
        await eventually(lambda: bench.jobs() == ["a", "a"], "it is taken back again")


async def test_reclaimer_logs_broker_error_once_and_tries_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same line every second would fill the log."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "a")
    bench.kill("s1")
    bench.taker.problem = "cannot take from substation.s1: it is locked"
    with caplog.at_level(logging.WARNING):
        async with at_work(bench):
            await bench.rounds(6)
            bench.taker.problem = ""
            await eventually(lambda: bench.jobs() == ["a"], "it is taken back")
    said = [each.getMessage() for each in caplog.records]
    wrong = [each for each in said if each.startswith("no jobs are reclaimed")]
    assert wrong == ["no jobs are reclaimed: cannot take from substation.s1: it is locked"]


async def test_reclaimer_logs_begin_and_number_of_jobs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two lines for a dead substation, however many jobs waited for it."""
    bench = Bench("s1", "s2", failure_detector=5)
    bench.taker.put("s1", *"abcd")
    with caplog.at_level(logging.WARNING):
        async with at_work(bench):
            await bench.rounds(10)  # long after the start
            bench.kill("s1")
            await bench.rounds(8)
    assert [each.getMessage() for each in caplog.records] == [
        "reclaiming the jobs that wait for s1: "
        "its page cannot be read, and its queue has no consumer",
        "reclaimed 4 jobs that waited for s1",
    ]


async def test_reclaimer_logs_number_of_jobs_when_substation_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The jobs that are left in its queue are its own again."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", *"abcdefgh")
    bench.kill("s1")
    with caplog.at_level(logging.WARNING):
        async with at_work(bench):
            await bench.rounds()
            bench.state("s1", reachable=True, consumers=1)
            await bench.rounds()
    assert caplog.records[-1].getMessage() == f"reclaimed {BOUND} jobs that waited for s1"
    assert len(bench.taker.queues["s1"]) == 8 - BOUND


async def test_reclaimer_rejects_job_over_which_an_error_is_raised() -> None:
    """The service ends; the poison message must not reach the next process too."""
    bench = Bench("s1", "s2")

    def reclaim(_: str, __: Delivery) -> bool:
        raise KeyError("some mistake")

    bench.on_reclaim = reclaim
    bench.taker.put("s1", "poison")
    bench.kill("s1")
    with pytest.raises(KeyError):
        await asyncio.wait_for(bench.reclaim.run(), links.TIMEOUT)
    assert bench.taker.rejected == ["poison"]


async def test_reclaimer_rejects_job_whose_headers_raise_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise each process that starts would take it again, and end."""

    def replays(_: object) -> int:
        raise KeyError("some mistake")

    monkeypatch.setattr(parking, "replays", replays)
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "poison")
    bench.kill("s1")
    with pytest.raises(KeyError):
        await asyncio.wait_for(bench.reclaim.run(), links.TIMEOUT)
    assert bench.taker.rejected == ["poison"]
