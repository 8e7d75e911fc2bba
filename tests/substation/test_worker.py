from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from grid import events, provenance, topology
from grid.amqp import Outcome
from grid.event_log import EventWriter
from grid.events import Counts, State
from grid.messages import ChargeRequest
from grid.trace import Span
from substation import worker as module
from substation.station import Station
from substation.worker import CHARGING_WAIT_SECONDS, DELIVERY_COUNT, Worker
from tests.examples import examples
from tests.fake_broker import FakeConsumer, FakePublisher, raise_violations, turns

AT = 1_000.0
LONG = (3_600.0, 3_600.0)  # a session that the test ends, or that never ends
# a session whose beginning and end are two messages: it is longer than the first waits
APART = (2 * CHARGING_WAIT_SECONDS, 2 * CHARGING_WAIT_SECONDS)


def body(id: str, power: float | None = None) -> bytes:
    """Return a job's bytes."""
    return ChargeRequest(id, AT - 1, requested_power_kw=power).encode()


class Bench:
    """A substation's worker between a queue and an event log that are scripted."""

    def __init__(
        self,
        connectors: int = 2,
        seconds: tuple[float, float] = (0.0, 0.0),
        *,
        recorded: bool = True,
    ) -> None:
        self.publisher = (
            FakePublisher(charge_events=Outcome.CONFIRMED) if recorded else FakePublisher()
        )
        self.station = Station(connectors, 400, 0, AT)
        self.observed: list[float] = []
        self.spans: list[Span] = []
        self.at = AT  # by the wall clock
        self.elapsed = 0.0  # by the steady one
        self.queue = FakeConsumer(topology.substation_queue("s1").name)
        self.worker = Worker(
            "s1",
            self.station,
            EventWriter(self.publisher, "test", provenance.substation_writer("s1")),
            consumer=self.queue,
            charge_seconds=seconds,
            random=Random(3),  # noqa: S311
            chance=Random(3).getrandbits,  # noqa: S311
            clock=lambda: self.at,
            now=lambda: self.elapsed,
            observe=lambda seconds, _: self.observed.append(seconds),
            record=self.spans.append,
        )
        self.queue.begin(self.worker.deliver, self.worker.on_link_lost)

    def kinds(self) -> list[tuple[str, str]]:
        """Return the events written so far, each with its job."""
        return [(each.job, each.kind) for each in self.publisher.events()]


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something holds; timers of 0 s need a few turns."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # what it waits for sets no event
            await asyncio.sleep(0)


async def test_worker_charges_reports_and_acknowledges_a_job() -> None:
    """Two events, each with the counters just after it, then the acknowledgement."""
    bench = Bench()
    bench.queue.bring(body("j1"), "j1")
    await until(lambda: bench.queue.acked == [1])
    charging, completed = bench.publisher.events()
    assert (charging.kind, charging.job, charging.substation) == (State.CHARGING, "j1", "s1")
    assert (charging.attempt, charging.at) == (1, AT)
    assert charging.counts == Counts(1, 1, 0, 0, AT, 7.4)
    assert (completed.kind, completed.counts) == (State.COMPLETED, Counts(0, 1, 1, 0, AT, 0))
    assert len(bench.observed) == 1


async def test_substation_joins_the_begin_of_a_session_to_the_next_event() -> None:
    """Alone it would cost RabbitMQ as much as both; a completion does not wait."""
    bench = Bench(connectors=1)
    bench.queue.bring(body("j1"), "j1")
    bench.queue.bring(body("j2"), "j2")
    await until(lambda: len(bench.queue.acked) == 2)
    kinds = [[each.kind for each in events.decode(sent.body)] for sent in bench.publisher.sent]
    first, second, third = State.CHARGING, State.COMPLETED, State.CHARGING
    assert kinds == [[first, second, third], [State.COMPLETED]]


async def test_substation_writes_the_begin_of_a_session_within_its_time() -> None:
    """Though nothing else happens; the time in it is when the session began."""
    bench = Bench(seconds=LONG)
    began = asyncio.get_running_loop().time()
    bench.queue.bring(body("j1"), "j1")
    bench.at = AT + 5
    await turns()
    assert bench.publisher.events() == []
    await until(lambda: bool(bench.publisher.events()))
    assert asyncio.get_running_loop().time() - began >= CHARGING_WAIT_SECONDS
    [event] = bench.publisher.events()
    assert (event.kind, event.job, event.at) == (State.CHARGING, "j1", AT)


async def test_worker_acknowledges_a_job_only_after_its_completion_is_recorded() -> None:
    """After a crash before that, the job is charged again rather than lost."""
    bench = Bench(seconds=APART, recorded=False)
    bench.queue.bring(body("j1"), "j1")
    await until(lambda: len(bench.publisher.waiting) == 2)
    bench.publisher.answer("charge.events")  # that it charges
    await turns()
    assert bench.queue.acked == []
    bench.publisher.answer("charge.events")
    await turns()
    assert bench.queue.acked == [1]


async def test_worker_retries_a_completion_event_that_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until RabbitMQ confirms it, the job is neither acknowledged nor charged again."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)
    bench = Bench(seconds=APART, recorded=False)
    bench.queue.bring(body("j1"), "j1")
    await until(lambda: len(bench.publisher.waiting) == 2)
    bench.publisher.answer("charge.events")
    for _ in range(3):
        bench.publisher.answer("charge.events", Outcome.REFUSED)
        await until(lambda: bool(bench.publisher.waiting))
        assert bench.queue.acked == []
    bench.publisher.answer("charge.events")
    await turns()
    assert bench.queue.acked == [1]
    assert bench.station.counts() == Counts(0, 1, 1, 0, AT, 0)


async def test_worker_counts_attempts_by_rabbitmqs_delivery_count() -> None:
    """A job that was delivered twice before is at its third attempt."""
    bench = Bench(seconds=LONG)
    bench.queue.bring(body("j1"), "j1", again=True, headers={DELIVERY_COUNT: 2})
    await until(lambda: bool(bench.publisher.events()))
    assert bench.publisher.events()[0].attempt == 3


async def test_worker_charges_with_the_requested_power() -> None:
    """The substation's power is the sum of its sessions' power."""
    bench = Bench(seconds=LONG)
    bench.queue.bring(body("j1", 150), "j1")
    bench.queue.bring(body("j2", 22), "j2")
    assert bench.station.charging_power_kw == 172


async def test_worker_starts_waiting_jobs_as_connectors_become_free() -> None:
    """Jobs beyond the connectors start in order, as soon as one is free; none is lost."""
    bench = Bench(connectors=2, seconds=(0.01, 0.01))
    loads: list[float] = []
    for number in range(7):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    await until(lambda: len(bench.queue.acked) == 7)
    started = [job for job, kind in bench.kinds() if kind == State.CHARGING]
    assert started == [f"j{number}" for number in range(7)]
    loads = [each.counts.load for each in bench.publisher.events() if each.counts]
    assert max(loads) == 2


@pytest.mark.parametrize("over", [False, True])
async def test_worker_acknowledges_a_second_copy_without_charging(over: bool) -> None:  # noqa: FBT001
    """A job sent twice is charged once, whether the first is in progress or over; it is counted."""
    bench = Bench(seconds=(0.0, 0.0) if over else LONG)
    bench.queue.bring(body("j1"), "j1")
    if over:
        await until(lambda: bench.queue.acked == [1])
    bench.queue.bring(body("j1"), "j1")
    await turns()
    assert 2 in bench.queue.acked
    assert bench.station.accepted == 1
    assert bench.station.duplicates == 1


async def test_worker_reports_the_end_again_for_a_late_second_copy() -> None:
    """Its sender may have only the newer part of the log; it is the same end, not a second one."""
    bench = Bench()
    bench.queue.bring(body("j1"), "j1")
    await until(lambda: bench.queue.acked == [1])
    bench.at = AT + 90_000
    bench.queue.bring(body("j1"), "j1")
    await until(lambda: bench.queue.acked == [1, 2])
    await turns()
    _, first, again = bench.publisher.events()
    assert again == replace(first, attempt=0, counts=None)
    assert (again.at, again.substation) == (AT, "s1")


async def test_worker_expires_a_job_whose_departure_has_passed() -> None:
    """Its job expires, on record before it is acknowledged, and a second copy is dropped."""
    bench = Bench(recorded=False)
    late = ChargeRequest("late", AT - 9, departure_time=AT).encode()
    bench.queue.bring(late, "late")
    await turns()
    [event] = bench.publisher.events()
    assert (event.kind, event.job, event.substation) == (State.EXPIRED, "late", "s1")
    assert "departure" in event.reason
    assert event.counts == Counts(0, 0, 0, 1, AT, 0)
    assert bench.queue.acked == []
    bench.publisher.answer(topology.EVENTS)
    await turns()
    assert bench.queue.acked == [1]
    bench.queue.bring(late, "late")
    await turns()
    assert bench.queue.acked == [1, 2]
    assert (bench.station.accepted, bench.station.duplicates, bench.station.expired) == (0, 1, 1)


async def test_worker_expires_a_job_that_departs_while_it_waits() -> None:
    """The departure is checked again when its turn comes."""
    bench = Bench(connectors=1, seconds=(0.02, 0.02))
    bench.queue.bring(body("j1"), "j1")
    bench.queue.bring(ChargeRequest("late", AT - 9, departure_time=AT + 1).encode(), "late")
    bench.queue.bring(body("j3"), "j3")
    bench.at = AT + 1
    await until(lambda: sorted(bench.queue.acked) == [1, 2, 3])
    kinds = dict(bench.kinds())  # the last of each job
    assert kinds == {"j1": State.COMPLETED, "late": State.EXPIRED, "j3": State.COMPLETED}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"max_wait_seconds": 10}, "it waited longer than its max_wait_seconds (10)"),
        ({"max_wait_seconds": 10, "departure_time": AT + 2}, "max_wait_seconds"),
        ({"max_wait_seconds": 11, "departure_time": AT + 1}, "departure"),
    ],
)
async def test_worker_expires_a_job_that_waited_too_long(
    fields: dict[str, float], reason: str
) -> None:
    """Whichever comes first is the reason, also if the job is sent again."""
    bench = Bench(connectors=1, seconds=(0.02, 0.02))
    bench.queue.bring(body("j1"), "j1")
    late = ChargeRequest("late", AT - 9, **fields).encode()  # type: ignore[arg-type]
    bench.queue.bring(late, "late")
    bench.at = AT + 1
    await until(lambda: sorted(bench.queue.acked) == [1, 2])
    bench.queue.bring(late, "late")
    await until(lambda: sorted(bench.queue.acked) == [1, 2, 3])
    found = [each for each in bench.publisher.events() if each.job == "late"]
    assert {each.kind for each in found} == {State.EXPIRED}
    assert len(found) == 2
    assert all(reason in each.reason for each in found)


async def test_worker_reports_jobs_that_wait_for_a_connector() -> None:
    """It is neither in the queue nor charging, so only the substation knows of it."""
    bench = Bench(connectors=1, seconds=LONG)
    for number in range(3):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    assert bench.station.counts().waiting == 2
    bench.queue.break_link()
    assert bench.station.counts().waiting == 0


async def test_worker_session_survives_a_lost_link() -> None:
    """Redelivered, a job that still charges goes on, and is acknowledged by its new tag."""
    bench = Bench(seconds=(0.02, 0.02))
    bench.queue.bring(b"?", "bad")  # so that the tags differ
    bench.queue.bring(body("j1"), "j1")
    bench.queue.break_link()
    bench.queue.bring(body("j1"), "j1", again=True)
    await until(lambda: len(bench.queue.acked) == 1)
    assert bench.queue.acked == [1]
    assert bench.station.counts() == Counts(0, 1, 1, 0, AT, 0)
    assert bench.kinds() == [("j1", "charging"), ("j1", "completed")]


async def test_worker_does_not_repeat_a_job_completed_while_the_link_was_down() -> None:
    """It is acknowledged when it is redelivered, since it could not be before."""
    bench = Bench()
    bench.queue.bring(body("j1"), "j1")
    bench.queue.break_link()
    await until(lambda: len(bench.kinds()) == 2)
    await turns()
    bench.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert bench.queue.acked == [1]
    assert (bench.station.accepted, bench.station.duplicates) == (1, 0)


async def test_worker_does_not_start_a_waiting_job_of_a_lost_link() -> None:
    """A job that waited for a connector is not started by a delivery that is void."""
    bench = Bench(connectors=1, seconds=(0.01, 0.01))
    bench.queue.bring(body("j1"), "j1")
    bench.queue.bring(body("j2"), "j2")
    for each in bench.queue.break_link():
        bench.queue.bring(each.body, each.id, again=True)
    await until(lambda: len(bench.queue.acked) == 2)
    assert bench.station.accepted == 2


async def test_worker_rejects_a_malformed_job() -> None:
    """It is rejected, and a dispatcher parks it; the next job is charged."""
    bench = Bench()
    bench.queue.bring(b"?", "bad")
    bench.queue.bring(body("j1"), "j1")
    await until(lambda: bench.queue.acked == [2])
    assert bench.queue.rejected == [1]


async def test_worker_finishes_sessions_when_it_stops() -> None:
    """Sessions are finished and recorded; waiting and late jobs are requeued at once."""
    bench = Bench(connectors=1, seconds=(0.05, 0.05))
    bench.queue.bring(body("j1"), "j1")
    bench.queue.bring(body("j2"), "j2")
    stopping = asyncio.create_task(bench.worker.stop(grace_seconds=20))
    await turns()
    assert bench.queue.stopped
    assert bench.queue.requeued == [2]
    bench.queue.bring(body("j3"), "j3")
    assert bench.queue.requeued == [2, 3]
    assert not stopping.done()
    await asyncio.wait_for(stopping, 10)
    assert bench.queue.acked == [1]
    assert bench.station.counts() == Counts(0, 1, 1, 0, AT, 0)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_worker_finishes_sessions_when_it_stops_without_its_link(when: str) -> None:
    """Their ends are recorded; RabbitMQ redelivers the jobs, but not on links made later."""
    bench = Bench(connectors=1, seconds=(0.05, 0.05))
    for job in ("j1", "j2"):
        bench.queue.bring(body(job), job)
    if when == "before":
        bench.queue.break_link()
    stopping = asyncio.create_task(bench.worker.stop(grace_seconds=20))
    await turns()
    if when == "meanwhile":
        assert bench.queue.requeued == [2]
        bench.queue.break_link()
    assert not stopping.done()
    await asyncio.wait_for(stopping, 10)
    assert bench.kinds() == [("j1", State.CHARGING), ("j1", State.COMPLETED)]
    assert bench.queue.acked == []
    assert bench.queue.requeued == ([2] if when == "meanwhile" else [])
    assert bench.station.counts() == Counts(0, 1, 1, 0, AT, 0)


async def test_worker_requeues_sessions_beyond_the_grace_period() -> None:
    """After the grace period, every job that has not ended is requeued, and none ends later."""
    bench = Bench(connectors=3, seconds=LONG)
    for number in range(3):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    await asyncio.wait_for(bench.worker.stop(grace_seconds=0.01), 10)
    assert bench.queue.requeued == [1, 2, 3]
    assert bench.queue.outstanding == {}
    assert bench.station.sessions == {}
    assert bench.station.completed == 0


async def test_worker_without_jobs_stops_at_once() -> None:
    """An idle substation does not wait for its grace period."""
    bench = Bench()
    await asyncio.wait_for(bench.worker.stop(grace_seconds=3_600), 5)
    bench.queue.bring(body("j1"), "j1")
    await until(lambda: bench.queue.requeued == [1])


async def test_worker_leaves_no_task_behind_when_it_stops() -> None:
    """No task of the worker's own is left behind when the grace period was too short."""
    bench = Bench(seconds=LONG)
    bench.queue.bring(body("j1"), "j1")
    await bench.worker.stop(grace_seconds=0)
    await turns()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_worker_charges_thousands_of_jobs_at_once() -> None:
    """5,000 vehicles charge at the same time in one loop, and all sessions are completed."""
    bench = Bench(connectors=5_000)
    for number in range(5_000):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    assert len(bench.station.sessions) == 5_000
    await until(lambda: not bench.queue.outstanding)
    assert bench.station.counts() == Counts(0, 5_000, 5_000, 0, AT, 0)
    assert len(bench.queue.acked) == 5_000
    assert len(bench.publisher.sent) < 100, "events of one turn of the loop go out as one message"


async def test_worker_session_times_follow_the_settings() -> None:
    """Durations are distributed evenly between the two limits."""
    bench = Bench(connectors=2_000, seconds=(0.02, 0.05))
    for number in range(2_000):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    await until(lambda: len(bench.observed) == 2_000)
    assert 0.02 <= min(bench.observed) < 0.021
    assert 0.049 < max(bench.observed) <= 0.05
    assert sum(bench.observed) / 2_000 == pytest.approx(0.035, rel=0.03)


STEP = st.sampled_from(["job", "job", "copy", "break", "turn", "turn", "record", "record", "bad"])


@examples(60)
@given(st.lists(STEP, max_size=50), st.integers(1, 4))
def test_worker_charges_each_job_once_in_any_order_of_events(steps: list[str], room: int) -> None:
    """Copies, broken links and slow records in any order: each job is charged once, then acked."""
    asyncio.run(_go_through(steps, room))


async def _go_through(steps: list[str], room: int) -> None:
    bench = Bench(connectors=room, recorded=False)
    jobs: list[str] = []

    def step(name: str) -> None:
        if name == "job":
            jobs.append(f"j{len(jobs)}")
            bench.queue.bring(body(jobs[-1]), jobs[-1])
        elif name == "copy" and jobs:
            bench.queue.bring(body(jobs[-1]), jobs[-1])
        elif name == "bad":
            bench.queue.bring(b"?", "bad")
        elif name == "break":
            for each in bench.queue.break_link():
                bench.queue.bring(each.body, each.id, again=True)
        elif name == "record" and bench.publisher.waiting:
            bench.publisher.answer("charge.events")

    for name in steps:
        step(name)
        await turns(3)
        recorded = bench.station.completed
        assert len(bench.station.sessions) <= room
        assert len({job for job, kind in bench.kinds() if kind == "completed"}) <= recorded
    async with asyncio.timeout(20):
        while bench.queue.outstanding:
            step("record")
            await turns(3)
    await turns()
    raise_violations()
    assert bench.station.accepted == bench.station.completed == len(jobs)
    ends = [each for each in bench.publisher.events() if each.kind == State.COMPLETED]
    assert sorted(each.job for each in ends if each.counts) == sorted(jobs)  # the rest repeats them
    assert {(each.job, each.at) for each in ends} == {(job, AT) for job in jobs}


async def test_worker_charges_waiting_jobs_of_a_deleted_queue() -> None:
    """RabbitMQ will not redeliver them; sessions go on as well, and none is charged twice."""
    bench = Bench(connectors=1, seconds=(0.02, 0.02))
    for job in ("j1", "j2"):
        bench.queue.bring(body(job), job)
    assert bench.station.waiting == 1
    bench.worker.keep()
    bench.queue.break_link()
    assert bench.station.waiting == 1
    bench.queue.bring(body("j2"), "j2")  # sent again, to the queue that was declared anew
    await until(lambda: len(bench.observed) == 2)
    await until(lambda: bench.queue.acked == [1])
    assert bench.station.waiting == 0
    assert [kind for kind in bench.kinds() if kind[1] == State.COMPLETED] == [
        ("j1", State.COMPLETED),
        ("j2", State.COMPLETED),
    ]
    assert bench.worker.idle()


async def test_worker_expires_kept_job_whose_vehicle_has_left() -> None:
    """A deleted queue changes nothing: a late job expires, wherever it waited."""
    bench = Bench(connectors=1, seconds=(0.02, 0.02))
    bench.queue.bring(body("j1"), "j1")
    bench.queue.bring(ChargeRequest("late", AT - 9, departure_time=AT + 1).encode(), "late")
    bench.worker.keep()
    bench.at = AT + 1
    await until(lambda: len(bench.publisher.events(State.EXPIRED)) == 1)
    assert dict(bench.kinds())["late"] == State.EXPIRED
    assert (bench.station.accepted, bench.station.expired) == (1, 1)
