"""``DELETE /charge/{id}``: a client cancels its job, and is told how it ended."""

from __future__ import annotations

import asyncio

import pytest

from api import canceller
from api.jobs.projection import Projection
from grid import cancellations, kinds, topology
from grid.amqp import Outcome
from grid.cancellations import Cancellation
from grid.events import Event, State
from tests.api.harness import AT, Bench, problem

CANCEL = [("DELETE", "/charge/j1"), ("POST", "/charge/j1/cancel")]


def known(bench: Bench, *later: Event) -> None:
    """Have an api know a job."""
    for event in (Event(State.QUEUED, AT - 1, job="j1"), *later):
        bench.projection.apply(event)


def written(bench: Bench) -> list[Cancellation]:
    """Return the cancellations that were written."""
    sent = bench.publisher.to(topology.CANCELLATIONS)
    return [cancellations.decode(each.body) for each in sent]


@pytest.mark.parametrize(("method", "path"), CANCEL)
async def test_cancel_writes_cancellation_and_answers_with_the_end(method: str, path: str) -> None:
    """The answer is the job, cancelled, as soon as the event log says so."""
    bench = Bench()
    async with bench.serve():
        known(bench)
        asked = asyncio.create_task(bench.ask(method, path))
        await bench.until(lambda: written(bench) != [])
        bench.hear(kinds.cancelled("j1", AT))
        answer = await asked
    assert (answer.status, answer.body["status"]) == (200, "cancelled")
    assert answer.body["reason"] == kinds.CANCELLED_BY_CLIENT
    assert written(bench) == [Cancellation("j1", AT)]


async def test_cancellation_is_never_older_than_its_request() -> None:
    """The api that accepted it may have had a clock that was ahead."""
    bench = Bench()
    async with bench.serve():
        known(bench, Event(State.QUEUED, AT + 5, job="j2"))
        asked = asyncio.create_task(bench.ask("DELETE", "/charge/j2"))
        await bench.until(lambda: written(bench) != [])
        bench.hear(kinds.cancelled("j2", AT))
        await asked
    assert written(bench) == [Cancellation("j2", AT + 5)]


async def test_cancel_answers_with_another_end_that_came_first() -> None:
    """The vehicle was charged before the substation read the cancellation: 409 says so."""
    bench = Bench()
    async with bench.serve():
        known(bench)
        asked = asyncio.create_task(bench.ask("DELETE", "/charge/j1"))
        await bench.until(lambda: written(bench) != [])
        bench.hear(Event(State.CHARGING, AT, job="j1", substation="s1"))
        bench.hear(Event(State.COMPLETED, AT, job="j1", substation="s1"))
        found = problem(await asked, 409)
    assert "j1" in found["detail"]
    assert "completed" in found["detail"]


@pytest.mark.parametrize("state", [State.COMPLETED, State.EXPIRED, State.PARKED])
async def test_cancel_is_refused_for_job_that_has_ended_otherwise(state: State) -> None:
    """Nothing is written."""
    bench = Bench()
    async with bench.serve():
        known(bench, Event(state, AT, job="j1"))
        assert state in problem(await bench.ask("DELETE", "/charge/j1"), 409)["detail"]
    assert written(bench) == []


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (Event(State.PARKED, AT, job="j1"), 503),
        (Event(State.CANCELLED, AT, job="j1", reason="discarded by an operator"), 503),
        (Event(State.EXPIRED, AT, job="j1"), 409),
        (kinds.cancelled("j1", AT), 200),
    ],
)
async def test_cancel_while_the_log_is_read_is_refused_where_the_end_may_be_outdated(
    end: Event, status: int
) -> None:
    """An operator may have replayed it since: a client that is told 409 would not ask again."""
    bench = Bench()
    async with bench.serve():
        bench.log.caught_up.clear()
        known(bench, end)
        assert (await bench.ask("DELETE", "/charge/j1")).status == status
        bench.log.caught_up.set()
        known(bench, Event(State.QUEUED, AT + 1, job="j1", detail={"replays": 1}))
        if status == 503:
            asked = asyncio.create_task(bench.ask("DELETE", "/charge/j1"))
            await bench.until(lambda: written(bench) != [])
            bench.hear(kinds.cancelled("j1", AT))
            assert (await asked).status == 200


async def test_cancel_is_answered_again_for_cancelled_job() -> None:
    """A client may repeat it: whether its first answer was lost, it cannot know."""
    bench = Bench()
    async with bench.serve():
        known(bench, kinds.cancelled("j1", AT))
        answer = await bench.ask("DELETE", "/charge/j1")
    assert (answer.status, answer.body["status"]) == (200, "cancelled")
    assert written(bench) == []


async def test_cancel_is_accepted_where_nobody_ends_the_job_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The dispatcher or the substation is away: the answer is the job as it is."""
    monkeypatch.setattr(canceller, "END_SECONDS", 0.01)
    bench = Bench()
    async with bench.serve():
        known(bench)
        answer = await bench.ask("DELETE", "/charge/j1")
    assert (answer.status, answer.body["status"]) == (202, "queued")
    assert written(bench) == [Cancellation("j1", AT)]


async def test_cancel_of_unknown_job_is_404_once_the_log_is_read() -> None:
    """Before, nobody knows: 503."""
    bench = Bench()
    async with bench.serve():
        problem(await bench.ask("DELETE", "/charge/j1"), 404)
        bench.log.caught_up.clear()
        problem(await bench.ask("DELETE", "/charge/j1"), 503)


async def test_cancel_is_503_where_rabbitmq_does_not_take_it() -> None:
    """The job goes on."""
    bench = Bench()
    bench.publisher.automatic["charge_cancellations"] = Outcome.REFUSED
    bench.publisher.automatic[topology.CANCELLATIONS] = Outcome.REFUSED
    async with bench.serve():
        known(bench)
        problem(await bench.ask("DELETE", "/charge/j1"), 503)


def test_cancellation_by_client_outlasts_replays() -> None:
    """A substation cannot say how often a job was replayed; a discard is for one replay alone."""
    replay = Event(State.QUEUED, AT + 1, job="j1", detail={"replays": 1})
    parked = Event(State.PARKED, AT, job="j1")
    of_substation = Event(State.CANCELLED, AT + 2, job="j1", substation="s1")
    for last in (of_substation, kinds.cancelled("j1", AT + 2)):
        projection = Projection(10)
        for event in (Event(State.QUEUED, AT - 1, job="j1"), parked, replay, last):
            projection.apply(event)
        job = projection.get("j1")
        assert job is not None
        assert (job.status, job.replays) == (State.CANCELLED, 1)
        again = Projection(10)
        for event in job.events():
            again.apply(event)
        found = again.get("j1")
        assert found is not None
        assert found.status == State.CANCELLED
