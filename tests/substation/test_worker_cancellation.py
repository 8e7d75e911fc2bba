"""A substation ends a job that its client has cancelled, wherever it has it."""

from __future__ import annotations

from grid.cancellations import Cancellation
from grid.events import Counts, State
from grid.kinds import CANCELLED_BY_CLIENT
from grid.messages import ChargeRequest
from tests.substation.test_worker import AT, LONG, Bench, body, until


def cancel(bench: Bench, job: str, at: float = AT) -> None:
    """Have a worker read a client's cancellation."""
    bench.worker.cancel(Cancellation(job, at))


async def test_worker_ends_session_of_cancelled_job_and_starts_the_next() -> None:
    """The connector is free at once; the job is acknowledged once its end is recorded."""
    bench = Bench(connectors=1, seconds=LONG)
    bench.queue.bring(body("j1"), "j1")
    bench.queue.bring(body("j2"), "j2")
    cancel(bench, "j1")
    await until(lambda: bench.queue.acked == [1])
    kinds = [(each.job, each.kind, each.reason) for each in bench.publisher.events()]
    assert kinds == [
        ("j1", State.CHARGING, ""),
        ("j1", State.CANCELLED, CANCELLED_BY_CLIENT),
        ("j2", State.CHARGING, ""),
    ]
    _, cancelled, _ = bench.publisher.events()
    assert cancelled.counts == Counts(0, 1, 1, 0, AT, 0.0, 1), "a session ended, another job waits"
    assert list(bench.station.sessions) == ["j2"]
    assert bench.observed == [], "it is no completed session"


async def test_worker_ends_cancelled_job_that_waits_for_a_connector() -> None:
    """It counts as taken from the queue, and is not charged later."""
    bench = Bench(connectors=1, seconds=LONG)
    for job in ("j1", "j2", "j3"):
        bench.queue.bring(body(job), job)
    cancel(bench, "j2")
    await until(lambda: bench.queue.acked == [2])
    cancelled = bench.publisher.events(State.CANCELLED)
    assert [each.job for each in cancelled] == ["j2"]
    assert cancelled[0].counts == Counts(1, 1, 0, 1, AT, 7.4, 1)


async def test_worker_does_not_start_job_that_was_cancelled_before() -> None:
    """The cancellation may be read before the job is delivered; a later request is another one."""
    bench = Bench(seconds=LONG)
    cancel(bench, "j1")
    cancel(bench, "j2", at=AT - 2)
    bench.queue.bring(body("j1"), "j1")
    bench.queue.bring(body("j2"), "j2")
    await until(lambda: bench.queue.acked == [1])
    assert list(bench.station.sessions) == ["j2"]
    assert bench.station.cancelled_deliveries == 1


async def test_worker_leaves_job_as_it_ended() -> None:
    """A session that is over is completed, whether or not RabbitMQ has its record."""
    bench = Bench(recorded=False)
    bench.queue.bring(body("j1"), "j1")
    await until(lambda: bench.station.completed == 1)
    cancel(bench, "j1")
    assert bench.publisher.events(State.CANCELLED) == []
    assert bench.station.cancelled == 0


async def test_worker_tells_again_that_job_is_cancelled() -> None:
    """Whoever sends it again may not know of its end."""
    bench = Bench(seconds=LONG)
    bench.queue.bring(body("j1"), "j1")
    cancel(bench, "j1")
    await until(lambda: bench.queue.acked == [1])
    bench.queue.bring(body("j1"), "j1")
    await until(lambda: bench.queue.acked == [1, 2])
    assert [each.reason for each in bench.publisher.events(State.CANCELLED)] == [
        CANCELLED_BY_CLIENT,
        CANCELLED_BY_CLIENT,
    ]


async def test_worker_keeps_session_of_request_made_after_the_cancellation() -> None:
    """The same id was requested anew."""
    bench = Bench(seconds=LONG)
    bench.queue.bring(body("j1"), "j1")
    cancel(bench, "j1", at=AT - 2)
    assert list(bench.station.sessions) == ["j1"]


async def test_worker_ends_cancelled_job_of_a_queue_that_was_deleted() -> None:
    """It waits here only: RabbitMQ does not have it any more."""
    bench = Bench(connectors=1, seconds=LONG)
    bench.queue.bring(body("j1"), "j1")
    bench.queue.bring(body("j2"), "j2")
    bench.worker.keep()
    cancel(bench, "j2")
    cancel(bench, "j1")
    await until(lambda: len(bench.publisher.events(State.CANCELLED)) == 2)
    assert bench.station.sessions == {}


async def test_worker_charges_request_made_anew_after_its_cancellation() -> None:
    """It ended here, but as another request: what is asked for later is wanted."""
    bench = Bench()
    cancel(bench, "j1", at=AT - 1)
    bench.queue.bring(body("j1"), "j1")
    await until(lambda: bench.queue.acked == [1])
    bench.queue.bring(ChargeRequest("j1", AT + 5).encode(), "j1")
    await until(lambda: bench.queue.acked == [1, 2])
    assert bench.station.completed == 1


async def test_worker_ends_kept_job_when_its_cancellation_comes() -> None:
    """Not only when its turn has come: all connectors may be taken for hours."""
    bench = Bench(connectors=1, seconds=LONG)
    bench.queue.bring(body("j1"), "j1")
    bench.queue.bring(body("j2"), "j2")
    bench.worker.keep()
    cancel(bench, "j2")
    await until(lambda: len(bench.publisher.events(State.CANCELLED)) == 1)
    assert list(bench.station.sessions) == ["j1"]
