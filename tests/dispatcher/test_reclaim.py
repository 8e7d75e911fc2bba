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


async def test_the_jobs_of_a_dead_substation_are_taken_back_in_their_order() -> None:
    """Each is handed over once, with where it waited, and acknowledged only once it is safe."""
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


async def test_a_job_may_be_safe_at_once() -> None:
    """Whoever takes a job back may be done with it before it has said that it takes it."""
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


async def test_no_more_are_in_hand_than_agreed() -> None:
    """What is not safe yet bounds what is taken; each that is makes room for one more."""
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


async def test_it_tells_whose_jobs_are_in_hand() -> None:
    """Their queue may look empty, and is not done with: a link that breaks puts them back there."""
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


async def test_jobs_go_back_to_their_queue_while_another_dispatcher_is_at_work() -> None:
    """It cannot know who has them; those on their way already stay until they are safe."""
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


async def test_job_that_ended_long_ago_is_acknowledged() -> None:
    """The newest events say nothing of it any more; what the whole log tells still does."""
    bench = Bench("s1", "s2")
    bench.open_jobs.take(Event(State.COMPLETED, 1.0, "a", "s1"), 0)
    bench.taker.put("s1", "a", "b")
    bench.kill("s1")
    async with at_work(bench):
        await eventually(lambda: bench.jobs() == ["b"], "only the other one is handed over")
    assert bench.taker.acked == ["a"]


async def test_queues_are_emptied_in_turn() -> None:
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


async def test_a_queue_that_fills_every_period_is_not_begun_with_again() -> None:
    """Where jobs become safe slowly, each period has room for one queue: for another each time."""
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


async def test_nothing_is_taken_while_it_can_go_nowhere_else() -> None:
    """A job is better off in its queue than in hand."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "a", "b")
    bench.kill("s1")
    bench.elsewhere = False
    async with at_work(bench):
        await bench.rounds()
        assert bench.taker.asked == []
        bench.elsewhere = True
        await eventually(lambda: bench.jobs() == ["a", "b"], "they are taken back")


async def test_an_empty_queue_is_not_asked() -> None:
    """A substation that is gone for days costs a look a second, and no line in the log."""
    bench = Bench("s1", "s2")
    bench.kill("s1")
    async with at_work(bench):
        await bench.rounds(6)
    assert bench.taker.asked == []


async def test_a_job_that_is_not_wanted_goes_back() -> None:
    """Refused, it is given back, and this queue is left alone until the next look."""
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


async def test_a_message_without_an_id_is_handed_over_as_any() -> None:
    """Whoever takes it back sees what it is."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", None)
    bench.kill("s1")
    async with at_work(bench):
        await eventually(lambda: bench.jobs() == [None], "it is handed over")


async def test_a_delivery_from_before_a_break_acknowledges_nothing() -> None:
    """When the link breaks all is forgotten, and comes again as other deliveries."""
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


async def test_after_a_break_consumers_have_time_to_come_back() -> None:
    """RabbitMQ that was away has no consumers at first: that is nobody's death."""
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


async def test_a_broker_that_refuses_is_told_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every second the same line would fill the log."""
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


async def test_it_says_when_it_begins_and_how_many_there_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two lines for a substation's death, however many jobs waited for it."""
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


async def test_it_says_how_many_there_were_when_the_substation_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is left in the queue when the substation is back is its own again."""
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


async def test_a_mistake_over_a_job_ends_the_service_and_puts_the_job_aside() -> None:
    """Poison must not meet the next process too."""
    bench = Bench("s1", "s2")

    def reclaim(_: str, __: Delivery) -> bool:
        raise KeyError("some mistake")

    bench.on_reclaim = reclaim
    bench.taker.put("s1", "poison")
    bench.kill("s1")
    with pytest.raises(KeyError):
        await asyncio.wait_for(bench.reclaim.run(), links.TIMEOUT)
    assert bench.taker.rejected == ["poison"]


async def test_a_mistake_over_a_job_s_headers_puts_the_job_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also before it is handed over: it would be taken again by every process that starts."""

    def replays(_: object) -> int:
        raise KeyError("some mistake")

    monkeypatch.setattr(parking, "replays", replays)
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "poison")
    bench.kill("s1")
    with pytest.raises(KeyError):
        await asyncio.wait_for(bench.reclaim.run(), links.TIMEOUT)
    assert bench.taker.rejected == ["poison"]
