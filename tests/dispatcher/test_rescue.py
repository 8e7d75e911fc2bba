from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from dispatcher import rescue as rescues
from dispatcher.patience import Patience
from dispatcher.progress import Progress
from dispatcher.rescue import Rescue
from grid import parking, topology
from grid.amqp import Declarer, Delivery, Publisher, QueueState, Taker
from grid.errors import BrokerUnavailable
from grid.events import Event, State
from tests.broker import VirtualHost
from tests.fake_broker import NOWHERE
from tests.grid import links
from tests.grid.gate import gate
from tests.grid.links import Seen, eventually, running, waits_in

PERIOD = 0.01
BOUND = 5


class FakeTaker(Taker):
    """Queues by substation; RabbitMQ's rule holds that no delivery ends twice."""

    def __init__(self, forget: Callable[[], None]) -> None:
        super().__init__("fake", NOWHERE, lambda *_: None, forget=forget)
        self.up.set()
        self.queues: dict[str, deque[str | None]] = {}
        self.outstanding: dict[int, tuple[str, str | None]] = {}
        self.acked: list[str | None] = []
        self.requeued: list[str | None] = []
        self.rejected: list[str | None] = []
        self.asked: list[str] = []
        self.problem = ""
        self.headers: dict[str, dict[str, Any]] = {}  # by job, of those that have some
        self._tag = 0

    def put(self, substation: str, *ids: str | None) -> None:
        """Have jobs wait for a substation."""
        self.queues.setdefault(substation, deque()).extend(ids)

    async def take(self, queue: str) -> Delivery | None:
        """Take the first."""
        await asyncio.sleep(0)
        name = queue.removeprefix(topology.SUBSTATION_QUEUE_PREFIX)
        self.asked.append(name)
        if self.problem:
            raise BrokerUnavailable(self.problem)
        if not self.queues.get(name):
            return None
        self._tag += 1
        job = self.queues[name].popleft()
        self.outstanding[self._tag] = (name, job)
        headers = self.headers.get(str(job), {})
        return Delivery(self._tag, str(job).encode(), job, redelivered=False, headers=headers)

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Record an acknowledgement."""
        assert not multiple
        self.acked.append(self._end(tag)[1])

    def requeue(self, tag: int) -> None:
        """Put a job back to the front of its queue."""
        name, job = self._end(tag)
        self.requeued.append(job)
        self.queues[name].appendleft(job)

    def reject(self, tag: int) -> None:
        """Record what is refused for good."""
        self.rejected.append(self._end(tag)[1])

    def break_link(self) -> None:
        """Lose the channel: all goes back, and tags begin at 1 again."""
        for name, job in reversed(self.outstanding.values()):
            self.queues[name].appendleft(job)
        self.outstanding.clear()
        self._tag = 0
        self._lost()

    def _end(self, tag: int) -> tuple[str, str | None]:
        assert tag in self.outstanding, f"PRECONDITION_FAILED - unknown delivery tag {tag}"
        return self.outstanding.pop(tag)


class Bench:
    """A rescue whose patience is short, and what it sees and does."""

    def __init__(self, *names: str, patience: float = 0.0) -> None:
        self.progress = Progress(1_000)
        self.reachable = dict.fromkeys(names, True)
        self.consumers: dict[str, int | None] = dict.fromkeys(names, 1)
        self.known = True  # whether RabbitMQ tells the state of a queue
        self.elsewhere = True
        self.willing = True
        self.handed: list[tuple[str, Delivery]] = []
        self.forgotten = 0
        self.rescued: Counter[str] = Counter()
        self.looks = 0
        seconds = count()
        self.rescue = Rescue(
            self.progress,
            Patience(patience),
            reachable=lambda: self.reachable,
            look=self.look,
            take_back=self._take_back,
            anywhere_else=lambda _: self.elsewhere,
            forget=self._forget,
            rescued=lambda name: self.rescued.update([name]),
            now=lambda: float(next(seconds)),
        )
        self.taker = FakeTaker(self.rescue.forget)
        self.rescue.connect(self.taker)

    def look(self, name: str) -> QueueState | None:
        """Give the state of a substation's queue."""
        self.looks += 1
        consumers = self.consumers[name]
        if consumers is None:
            return None
        return QueueState(len(self.taker.queues.get(name, ())), consumers)

    def _take_back(self, name: str, delivery: Delivery) -> bool:
        self.handed.append((name, delivery))
        return self.willing

    def _forget(self) -> None:
        self.forgotten += 1

    def state(self, name: str, *, reachable: bool, consumers: int | None) -> None:
        """Have a substation seen so from now on."""
        self.reachable[name], self.consumers[name] = reachable, consumers

    def kill(self, name: str) -> None:
        """Let a substation die."""
        self.state(name, reachable=False, consumers=0)

    def jobs(self) -> list[str | None]:
        """Give the ids of what was handed over, in order."""
        return [each.id for _, each in self.handed]

    def tags(self) -> list[int]:
        """Give the tags of what was handed over, in order."""
        return [each.tag for _, each in self.handed]

    def charges(self, job: str, where: str) -> None:
        """Tell that a job is in progress."""
        self.progress.take(Event(State.CHARGING, 1, job=job, substation=where))

    def ends(self, job: str) -> None:
        """Tell that a job has ended."""
        self.progress.take(Event(State.COMPLETED, 2, job=job))

    async def rounds(self, number: int = 4) -> None:
        """Wait until every substation was looked at so many times more."""
        until = self.looks + number * len(self.reachable)
        await eventually(lambda: self.looks >= until, "it looks again")


@asynccontextmanager
async def at_work(bench: Bench) -> AsyncIterator[Bench]:
    """Run a rescue while the context lasts."""
    task = asyncio.create_task(bench.rescue.run())
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rescues, "PERIOD_SECONDS", PERIOD)
    monkeypatch.setattr(rescues, "MOST", BOUND)
    return iter(())


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
        assert (bench.taker.acked, bench.rescue.in_hand) == ([], 3)
        bench.rescue.done(bench.tags()[1])
        assert bench.taker.acked == ["b"]
        assert bench.rescued == {"s1": 1}
        await bench.rounds()
    assert bench.jobs() == ["a", "b", "c"]
    assert bench.taker.requeued == []


async def test_a_job_may_be_safe_at_once() -> None:
    """Whoever takes a job back may be done with it before it has said that it takes it."""
    bench = Bench("s1", "s2")

    def take_back(_: str, delivery: Delivery) -> bool:
        bench.rescue.done(delivery.tag)
        return True

    bench.rescue._take_back = take_back  # noqa: SLF001
    bench.taker.put("s1", *"abcdefgh")
    bench.kill("s1")
    async with at_work(bench):
        await eventually(lambda: bench.taker.acked == list("abcdefgh"), "all are done")
    assert bench.rescued == {"s1": 8}
    assert bench.rescue.in_hand == 0


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
            assert bench.rescue.in_hand <= BOUND
            bench.rescue.done(bench.tags()[finished])
    assert bench.rescued == {"s1": 20, "s2": 20}
    assert len(set(bench.jobs())) == 40


async def test_it_tells_whose_jobs_are_in_hand() -> None:
    """Their queue may look empty, and is not done with: a link that breaks puts them back there."""
    bench = Bench("s1", "s2", "s3")
    bench.taker.put("s1", "a")
    bench.taker.put("s2", "charging")
    bench.progress.take(Event(State.CHARGING, 1.0, job="charging", substation="s2", attempt=1))
    bench.kill("s1")
    bench.state("s2", reachable=False, consumers=1)
    async with at_work(bench):
        await eventually(lambda: len(bench.taker.outstanding) == 2, "both are taken")
        held = [bench.rescue.holds(name) for name in ("s1", "s2", "s3")]
        assert held == [True, True, False]
        bench.rescue.done(bench.tags()[0])
        assert not bench.rescue.holds("s1")


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
            for tag in bench.tags():
                bench.rescue.done(tag)
            await eventually(lambda h=handed: len(bench.handed) > h, "more are taken")  # type: ignore[misc]
    assert bench.jobs().index("b") <= 2 * BOUND


async def test_a_queue_that_fills_every_period_is_not_begun_with_again() -> None:
    """Where jobs become safe slowly, each period has room for one queue: for another each time."""
    bench = Bench("s1", "s2", "s3")

    def look(name: str) -> QueueState | None:
        for tag in bench.tags():  # what a period took is safe when the next one begins
            bench.rescue.done(tag)
        return bench.look(name)

    bench.rescue._look = look  # noqa: SLF001
    bench.taker.put("s1", *[f"a{number}" for number in range(50)])
    bench.taker.put("s2", "b")
    bench.kill("s1")
    bench.kill("s2")
    async with at_work(bench):
        await eventually(lambda: "b" in bench.jobs(), "the other one has its turn")
    assert bench.jobs().index("b") <= 2 * BOUND


async def test_sessions_of_a_living_substation_are_left_to_it() -> None:
    """Those it charges come back to it, once; those that only wait behind them are moved."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "charging", "waiting", "elsewhere", "over")
    bench.charges("charging", "s1")
    bench.charges("elsewhere", "s2")
    bench.charges("over", "s1")
    bench.ends("over")
    bench.state("s1", reachable=True, consumers=0)
    async with at_work(bench):
        await bench.rounds(6)
        assert bench.jobs() == ["waiting", "elsewhere"]
        assert (bench.taker.acked, bench.taker.requeued) == (["over"], [])
        bench.consumers["s1"] = 1
        await bench.rounds()
        assert bench.taker.requeued == ["charging"]
        await bench.rounds()
    assert bench.taker.requeued == ["charging"]


async def test_a_replayed_job_is_not_over_for_having_been_parked() -> None:
    """It waits for a dead substation like any other; one that was parked from there is a copy."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "parked", "replayed")
    bench.taker.headers["replayed"] = parking.marked(1)
    for job in ("parked", "replayed"):
        bench.progress.take(Event(State.PARKED, 1, job=job))
    bench.kill("s1")
    async with at_work(bench):
        await bench.rounds()
    assert (bench.taker.acked, bench.jobs()) == (["parked"], ["replayed"])


async def test_a_session_that_ends_meanwhile_is_acknowledged() -> None:
    """A spared job whose end is told needs nobody any more."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "a", "b")
    bench.charges("a", "s1")
    bench.charges("b", "s1")
    bench.state("s1", reachable=True, consumers=0)
    async with at_work(bench):
        await bench.rounds()
        bench.ends("a")
        await bench.rounds()
        assert (bench.taker.acked, bench.handed) == (["a"], [])
        bench.kill("s1")
        await bench.rounds()
    assert bench.jobs() == ["b"]
    assert bench.taker.requeued == ["b"]


async def test_sessions_of_many_do_not_fill_the_hand() -> None:
    """One substation's own sessions are spared up to a bound, and hold up no other's jobs."""
    bench = Bench("s1", "s2", "s3")
    names = [f"c{number}" for number in range(2 * BOUND)]
    bench.taker.put("s1", *names)
    for each in names:
        bench.charges(each, "s1")
    bench.state("s1", reachable=True, consumers=0)
    bench.taker.put("s2", "b")
    bench.kill("s2")
    async with at_work(bench):
        await bench.rounds()
        assert bench.jobs() == ["b"]
        assert len(bench.taker.queues["s1"]) == BOUND
    assert bench.taker.requeued == []


async def test_a_dead_substation_charges_nothing() -> None:
    """Its sessions died with it: their jobs are taken back too."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "a")
    bench.charges("a", "s1")
    bench.kill("s1")
    async with at_work(bench):
        await eventually(lambda: bench.jobs() == ["a"], "it is taken back")


@pytest.mark.parametrize("consumers", [1, None])
async def test_what_waits_for_one_that_is_out_of_sight_is_moved(consumers: int | None) -> None:
    """Whatever RabbitMQ says of its queue: its waiting jobs go elsewhere, its sessions do not."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "charging", "waiting")
    bench.charges("charging", "s1")
    bench.state("s1", reachable=False, consumers=consumers)
    async with at_work(bench):
        await bench.rounds()
    assert bench.jobs() == ["waiting"]
    assert bench.taker.acked == []


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
        assert bench.rescue.in_hand == 0
        bench.willing = True
        await eventually(lambda: bench.rescue.in_hand == 2, "it is taken later")
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


async def test_a_tag_from_before_a_break_acknowledges_nothing() -> None:
    """When the link breaks all is forgotten, and comes again under other tags."""
    bench = Bench("s1", "s2")
    bench.taker.put("s1", "own", "a", "b")
    bench.charges("own", "s1")
    bench.state("s1", reachable=True, consumers=0)
    async with at_work(bench):
        await eventually(lambda: bench.rescue.in_hand == 2, "they are in hand")
        old = bench.tags()
        bench.taker.break_link()
        assert (bench.forgotten, bench.rescue.in_hand) == (1, 0)
        await eventually(lambda: bench.rescue.in_hand == 2, "they are in hand again")
        for tag in old:
            bench.rescue.done(tag)
        assert (bench.taker.acked, bench.rescued) == ([], {})
        for tag in bench.tags()[2:]:
            bench.rescue.done(tag)
        assert bench.taker.acked == ["a", "b"]
    assert bench.jobs() == ["a", "b", "a", "b"]


async def test_after_a_break_consumers_have_time_to_come_back() -> None:
    """RabbitMQ that was away has no consumers at first: that is nobody's death."""
    bench = Bench("s1", "s2", patience=20)  # looks
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
    wrong = [each for each in said if each.startswith("no jobs are taken back")]
    assert wrong == ["no jobs are taken back: cannot take from substation.s1: it is locked"]


async def test_it_says_when_it_begins_and_how_many_there_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two lines for a substation's death, however many jobs waited for it."""
    bench = Bench("s1", "s2", patience=5)
    bench.taker.put("s1", *"abcd")
    with caplog.at_level(logging.WARNING):
        async with at_work(bench):
            await bench.rounds(10)  # long after the start
            bench.kill("s1")
            await bench.rounds(8)
    assert [each.getMessage() for each in caplog.records] == [
        "taking back the jobs that wait for s1: "
        "neither its page nor a consumer of its queue is there",
        "took back 4 jobs that waited for s1",
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
    assert caplog.records[-1].getMessage() == f"took back {BOUND} jobs that waited for s1"
    assert len(bench.taker.queues["s1"]) == 8 - BOUND


async def test_a_mistake_over_a_job_ends_the_service_and_puts_the_job_aside() -> None:
    """Poison must not meet the next process too."""
    bench = Bench("s1", "s2")

    def take_back(_: str, __: Delivery) -> bool:
        raise KeyError("some mistake")

    bench.rescue._take_back = take_back  # noqa: SLF001
    bench.taker.put("s1", "poison")
    bench.kill("s1")
    with pytest.raises(KeyError):
        await asyncio.wait_for(bench.rescue.run(), links.PATIENCE)
    assert bench.taker.rejected == ["poison"]


@pytest.mark.integration
async def test_with_a_real_broker_no_job_is_lost_or_taken_from_a_worker(
    vhost: VirtualHost,
) -> None:
    """Jobs come back when the link is cut before they are safe, and are gone once they are."""
    queue = topology.substation_queue("substation1")
    handed: list[Delivery] = []

    seen: list[QueueState] = []

    async def watch() -> None:
        while True:
            seen[:] = [await declarer.queue(queue)]
            await asyncio.sleep(0.05)

    def take_back(_: str, delivery: Delivery) -> bool:
        handed.append(delivery)
        return True

    rescue = Rescue(
        Progress(10),
        Patience(0.0),
        reachable=lambda: {"substation1": False, "substation2": True},
        look=lambda _: seen[0] if seen else None,
        take_back=take_back,
        anywhere_else=lambda _: True,
        forget=lambda: None,
        rescued=lambda _: None,
        now=asyncio.get_running_loop().time,
    )
    worker = links.Taker(vhost.url("substation.substation1"), queue.name, ack=False, prefetch=1)
    async with (
        gate(vhost.url("dispatcher")) as way,
        running(Declarer("declarer", [vhost.url("dispatcher")], Seen())) as declarer,
        running(Publisher("publisher", [vhost.url("dispatcher")], Seen())) as publisher,
    ):
        await waits_in(declarer, queue, 0)
        for job in ("charging", "a", "b"):
            publisher.publish(queue.exchange, queue.key, b"", lambda _: None, id=job)
        await publisher.drained()
        taker = Taker("taker", [way.url], Seen(), forget=rescue.forget)
        rescue.connect(taker)
        async with running(worker.link):
            await eventually(lambda: worker.ids == ["charging"], "the worker has its job")
            async with running(taker):
                work = asyncio.gather(rescue.run(), watch())
                await eventually(lambda: len(handed) == 2, "the others are taken back")
                assert [each.id for each in handed] == ["a", "b"]
                await way.reopen()
                await eventually(lambda: len(handed) == 4, "they come again")
                assert all(each.redelivered for each in handed[2:])
                for each in handed:
                    rescue.done(each.tag)
                assert rescue.in_hand == 0
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            await waits_in(declarer, queue, 0)
        await eventually(lambda: not worker.link.connected, "the worker is gone")
        async with running(
            links.Taker(vhost.url("substation.substation1"), queue.name).link
        ) as rest:
            await eventually(lambda: rest.connected, "what is left is delivered")
        await waits_in(declarer, queue, 0)
        assert worker.ids == ["charging"]
