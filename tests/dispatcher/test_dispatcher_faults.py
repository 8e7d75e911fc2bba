"""A request in the dispatcher when links break, and when RabbitMQ refuses or redelivers.

RabbitMQ redelivers what is not acknowledged; a job that was sent must not be sent twice.
"""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.core import SENT_AGAIN
from grid import topology
from grid.amqp import Outcome
from grid.events import Event, State
from scheduling.candidates import Candidates
from scheduling.explain import Explainer
from scheduling.policies import Pick
from scheduling.wait_queue import Requirements
from tests.dispatcher.harness import AT, SUBSTATIONS, Bench, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


def recording() -> FakePublisher:
    """Make a publisher whose broker confirms every event, and leaves the rest to the test."""
    return FakePublisher(charge_events=Outcome.CONFIRMED)


def assigned(job: str, substation: str) -> Event:
    """Return the record of a decision of an earlier dispatcher."""
    return Event(State.ASSIGNED, AT - 1, job=job, substation=substation, attempt=1)


async def test_core_acknowledges_job_whose_decision_the_log_refuses() -> None:
    """The lost event is counted; the job is sent and acknowledged."""
    bench = Bench(FakePublisher(charge_substations=Outcome.CONFIRMED), "s1")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.publisher.answer(topology.EVENTS, Outcome.REFUSED)
    await turns()
    assert bench.queue.acked == [1]
    assert bench.count("events_lost_total") == 1


@pytest.mark.parametrize(
    ("outcome", "declared"), [(Outcome.REFUSED, []), (Outcome.UNROUTABLE, [True])]
)
async def test_core_sends_job_elsewhere_when_a_queue_refuses_it(
    outcome: Outcome, declared: list[bool]
) -> None:
    """A full or missing queue costs a second attempt; a missing one is declared."""
    bench = Bench(recording(), "s1", "s2")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.publisher.answer(SUBSTATIONS, outcome)
    await turns()
    (_, first), (_, second) = bench.publisher.routed()
    assert {first, second} == {"s1", "s2"}
    assert bench.missing == [first] * len(declared)
    assert bench.tracker.substations[first].load == 0
    assert outcome.value in str(bench.tracker.substations[first].refusal)
    assert bench.queue.acked == []
    assert [each.attempt for each in bench.publisher.events()] == [1, 2]
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.queue.acked == [1]
    assert bench.count("refused_jobs_total", substation=first) == 1
    assert bench.count("decisions_total", substation=first) == 0


async def test_core_holds_job_that_every_queue_refuses_until_the_next_page() -> None:
    """It stays unacknowledged, and is sent once a substation's page is read again."""
    bench = Bench(recording(), "s1")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert len(bench.publisher.routed()) == 1
    assert bench.core.waiting == 1
    bench.read("s1")
    await turns()
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.queue.acked == [1]


async def test_core_does_not_resend_job_in_flight_after_link_broke() -> None:
    """Redelivered before the confirm, it is not sent again; the new delivery is acknowledged."""
    bench = Bench(recording(), "s1")
    bench.queue.bring(body("j0", "s9"), "j0")  # so that the tags differ
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.queue.break_link()
    bench.queue.bring(body("j1"), "j1", again=True)
    await turns()
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]
    assert bench.queue.acked == [1]
    assert bench.count("redelivered_total") == 1


async def test_core_recognises_job_confirmed_after_link_broke() -> None:
    """Its acknowledgement was lost, but not its job: the redelivery is only acknowledged."""
    bench = Bench(recording(), "s1")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.queue.break_link()
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    bench.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]
    assert bench.queue.acked == [1]
    assert bench.count("duplicate_requests_total") == 0


async def test_core_forgets_job_refused_after_link_broke() -> None:
    """Without a delivery it is not sent elsewhere: RabbitMQ redelivers it."""
    bench = Bench(recording(), "s1", "s2")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.queue.break_link()
    bench.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert len(bench.publisher.routed()) == 1
    assert bench.core.waiting == 0
    bench.queue.bring(body("j1"), "j1", again=True)
    await turns()
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert len(bench.publisher.routed()) == 2
    assert bench.queue.acked == [1]


async def test_core_forgets_waiting_requests_when_link_breaks() -> None:
    """However often the link breaks, a request that waits for capacity is held once."""
    bench = Bench(confirming(), "s1", connectors=1)
    bench.read("s1", load=1)
    bench.queue.bring(body("j1"), "j1")
    for _ in range(3):
        assert bench.core.waiting == 1
        bench.queue.break_link()
        assert bench.core.waiting == 0
        bench.queue.bring(body("j1"), "j1", again=True)
        await turns()
    bench.read("s1", load=0)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]
    assert bench.queue.acked == [1]


async def test_core_forgets_early_deliveries_when_link_breaks_before_begin() -> None:
    """A request delivered before the beginning is redelivered, sent once, and acknowledged then."""
    bench = Bench(confirming(), "s1", begun=False)
    bench.queue.bring(body("j0"), "j0")
    bench.queue.bring(body("j1"), "j1")
    bench.queue.break_link()
    bench.queue.bring(body("j1"), "j1", again=True)
    bench.begin()
    await turns()
    assert bench.routed() == ["j1"]
    assert bench.queue.acked == [1]


@pytest.mark.parametrize("confirmed", [True, False])
async def test_core_drops_second_request_of_same_id(confirmed: bool) -> None:  # noqa: FBT001
    """A second request of the same id is dropped and counted, in flight or long sent."""
    bench = Bench(confirming() if confirmed else FakePublisher(), "s1", "s2")
    bench.queue.bring(body("j1"), "j1")
    if confirmed:
        await turns()
    bench.queue.bring(body("j1"), "j1")
    await turns()
    assert len(bench.publisher.routed()) == 1
    assert 2 in bench.queue.acked
    assert bench.count("duplicate_requests_total") == 1


@pytest.mark.parametrize("last", [State.COMPLETED, State.CANCELLED, State.EXPIRED, State.PARKED])
async def test_core_acknowledges_redelivered_request_of_ended_job(last: State) -> None:
    """Another dispatcher ended before it acknowledged it; the event log has the job's end."""
    bench = Bench(confirming(), "s1", begun=False)
    bench.tell(assigned("j1", "s1"), Event(last, AT, job="j1"))
    bench.queue.bring(body("j1"), "j1", again=True)
    bench.begin()
    await turns()
    assert bench.routed() == []
    assert bench.publisher.events() == [Event(last, AT, job="j1")]
    assert len(bench.publisher.sent) == 1
    assert bench.queue.acked == [1]


async def test_core_resends_to_substation_that_another_dispatcher_chose() -> None:
    """A copy there is recognised as one; at another substation it would be charged twice."""
    bench = Bench(recording(), "s1", "s2", connectors=2, begun=False)
    bench.read("s1", load=2)  # full, and so the worst choice
    bench.tell(assigned("j1", "s1"))
    bench.queue.bring(body("j1"), "j1", again=True)
    bench.begin()
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]
    (event,) = bench.publisher.events()
    assert (event.kind, event.substation) == (State.ASSIGNED, "s1")
    assert event.detail["reason"] == SENT_AGAIN
    assert bench.tracker.substations["s1"].load == 3
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.queue.acked == [1]


async def test_core_resends_to_substation_that_charges_the_job() -> None:
    """The session is newer than the last decision, whose job may not have arrived."""
    bench = Bench(confirming(), "s1", "s2", begun=False)
    charging = Event(State.CHARGING, AT + 1, job="j1", substation="s2", attempt=1)
    bench.tell(charging, assigned("j1", "s1"))
    bench.queue.bring(body("j1"), "j1", again=True)
    bench.begin()
    await turns()
    assert bench.publisher.routed() == [("j1", "s2")]


@pytest.mark.parametrize("where", ["dead", "gone"])
async def test_core_decides_anew_on_request_sent_to_lost_substation(where: str) -> None:
    """What waits at a dead substation is reclaimed from there; the request goes to another."""
    bench = Bench(confirming(), "s1", "s2", begun=False)
    if where == "dead":
        bench.lose("s1")
        bench.now += bench.tracker.stale_after
        bench.lose("s1")
        bench.read("s2")
    else:
        bench.tracker.keep({"s2": None})
    bench.tell(assigned("j1", "s1"))
    bench.queue.bring(body("j1"), "j1", again=True)
    bench.begin()
    await turns()
    assert bench.publisher.routed() == [("j1", "s2")]
    assert bench.queue.acked == [1]


async def test_core_resends_to_same_substation_after_one_late_page() -> None:
    """A single late page does not mean that the substation has stopped charging."""
    bench = Bench(confirming(), "s1", "s2", begun=False)
    bench.lose("s1")
    bench.tell(assigned("j1", "s1"))
    bench.queue.bring(body("j1"), "j1", again=True)
    bench.begin()
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]


async def test_core_resends_to_same_substation_before_its_first_page() -> None:
    """A dispatcher that has just started has no page yet, and must not charge a job twice."""
    bench = Bench(confirming(), "s2", begun=False)
    bench.tracker.keep({"s1": None, "s2": None})
    bench.tell(assigned("j1", "s1"))
    bench.queue.bring(body("j1"), "j1", again=True)
    bench.begin()
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]
    assert bench.queue.acked == [1]


async def test_core_sends_resent_job_elsewhere_when_its_queue_refuses_it() -> None:
    """The job is not there, so any other substation will do."""
    bench = Bench(recording(), "s1", "s2", begun=False)
    bench.tell(assigned("j1", "s1"))
    bench.queue.bring(body("j1"), "j1", again=True)
    bench.begin()
    await turns()
    bench.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1"), ("j1", "s2")]


class Mistaken(Exception):
    """An error that no code expects."""


async def test_core_rejects_request_over_which_the_decision_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is rejected, so the next process does not fail on it; the others are sent once each."""
    bench = Bench(confirming(), "s1")

    explanation = Explainer.explanation

    def failing(
        explainer: Explainer, pick: Pick, found: Candidates, needs: Requirements, now: float
    ) -> object:
        if needs.rank[-1] == "poison":
            raise Mistaken
        return explanation(explainer, pick, found, needs, now)

    monkeypatch.setattr(Explainer, "explanation", failing)
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: told.append(context["exception"].__cause__)
    )
    for job in ("j1", "poison", "j2"):
        bench.queue.bring(body(job), job)
    await turns()
    assert [type(each) for each in told] == [Mistaken], "which ends the service"
    assert bench.queue.rejected == [2]
    bench.shell.tick()
    await turns()
    assert sorted(bench.routed()) == ["j1", "j2"]


async def test_core_rejects_reclaimed_job_over_which_the_decision_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is rejected; otherwise the next process would reclaim it and fail as well."""
    bench = Bench(confirming(), "s1", "s2")
    bench.lose("s1")
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: told.append(context["exception"].__cause__)
    )

    def failing(*_: object, **__: object) -> object:
        raise Mistaken

    monkeypatch.setattr(Explainer, "explanation", failing)
    assert bench.reclaim.bring("s1", body("poison"), "poison")
    await turns()
    assert [type(each) for each in told] == [Mistaken], "which ends the service"
    assert bench.reclaim.rejected == [1]
    assert bench.reclaim.outstanding == {}


async def test_core_rejects_waiting_request_over_which_a_check_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of all waiting requests, only the one on which the code fails is rejected."""
    bench = Bench(confirming())
    for job in ("j1", "poison", "j2"):
        bench.queue.bring(body(job), job)
    await turns()

    def failing(requirements: Requirements, *_: object) -> None:
        if requirements.rank[-1] == "poison":
            raise Mistaken

    monkeypatch.setattr("dispatcher.core.impossible", failing)
    with pytest.raises(Mistaken):
        bench.shell.tick()
    assert bench.queue.rejected == [2]
