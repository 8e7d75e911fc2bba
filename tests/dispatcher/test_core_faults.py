"""A request in the dispatcher when links break, and when RabbitMQ refuses or redelivers.

RabbitMQ redelivers what is not acknowledged; a job that was sent must not be sent twice.
"""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.lifecycle import SENT_AGAIN
from dispatcher.requeue_overflow import MAX_HELD_SECONDS
from grid import topology
from grid.amqp import Outcome
from grid.events import Event, State
from scheduling.candidates import Candidates
from scheduling.explain import Explainer
from scheduling.order import Requirements
from scheduling.policies import Pick
from tests.dispatcher.harness import AT, SUBSTATIONS, Harness, body, confirming
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
    harness = Harness(FakePublisher(charge_substations=Outcome.CONFIRMED), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.publisher.answer(topology.EVENTS, Outcome.REFUSED)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.count("events_lost_total") == 1


@pytest.mark.parametrize(
    ("outcome", "declared"), [(Outcome.REFUSED, []), (Outcome.UNROUTABLE, [True])]
)
async def test_core_sends_job_elsewhere_when_a_queue_refuses_it(
    outcome: Outcome, declared: list[bool]
) -> None:
    """A full or missing queue costs a second attempt; a missing one is declared."""
    harness = Harness(recording(), "s1", "s2")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.publisher.answer(SUBSTATIONS, outcome)
    await turns()
    (_, first), (_, second) = harness.publisher.routed()
    assert {first, second} == {"s1", "s2"}
    assert harness.missing == [first] * len(declared)
    assert harness.tracker.substations[first].load == 0
    assert outcome.value in str(harness.tracker.substations[first].refusal)
    assert harness.queue.acked == []
    assert [each.attempt for each in harness.publisher.events()] == [1, 2]
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.count("refused_jobs_total", substation=first) == 1
    assert harness.count("decisions_total", substation=first) == 0


async def test_core_holds_job_that_every_queue_refuses_until_the_next_page() -> None:
    """It stays unacknowledged, and is sent once a substation's page is read again."""
    harness = Harness(recording(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert len(harness.publisher.routed()) == 1
    assert harness.core.waiting == 1
    harness.read("s1")
    await turns()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.queue.acked == [1]


async def test_core_does_not_resend_job_in_flight_after_link_broke() -> None:
    """Redelivered before the confirm, it is not sent again; the new delivery is acknowledged."""
    harness = Harness(recording(), "s1")
    harness.queue.bring(body("j0", "s9"), "j0")  # so that the tags differ
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.queue.break_link()
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]
    assert harness.queue.acked == [1]
    assert harness.count("redelivered_total") == 1


async def test_core_recognises_job_confirmed_after_link_broke() -> None:
    """Its acknowledgement was lost, but not its job: the redelivery is only acknowledged."""
    harness = Harness(recording(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.queue.break_link()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]
    assert harness.queue.acked == [1]
    assert harness.count("duplicate_requests_total") == 0


async def test_core_resends_confirmed_job_whose_delivery_was_lost_before_its_record() -> None:
    """Another dispatcher may have decided on it, and dropped the copy in a dead one's queue."""
    harness = Harness(FakePublisher(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    harness.queue.break_link()
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1"), ("j1", "s1")]
    assert harness.queue.acked == []
    harness.publisher.answer(topology.EVENTS)
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.queue.acked == [1]


async def test_core_forgets_job_refused_after_link_broke() -> None:
    """Without a delivery it is not sent elsewhere: RabbitMQ redelivers it."""
    harness = Harness(recording(), "s1", "s2")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.queue.break_link()
    harness.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert len(harness.publisher.routed()) == 1
    assert harness.core.waiting == 0
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert len(harness.publisher.routed()) == 2
    assert harness.queue.acked == [1]


async def test_core_forgets_waiting_requests_when_link_breaks() -> None:
    """However often the link breaks, a request that waits for capacity is held once."""
    harness = Harness(confirming(), "s1", connectors=1)
    harness.read("s1", load=1)
    harness.queue.bring(body("j1"), "j1")
    for _ in range(3):
        assert harness.core.waiting == 1
        harness.queue.break_link()
        assert harness.core.waiting == 0
        harness.queue.bring(body("j1"), "j1", again=True)
        await turns()
    harness.read("s1", load=0)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]
    assert harness.queue.acked == [1]


async def test_core_forgets_early_deliveries_when_link_breaks_before_begin() -> None:
    """A request delivered before the beginning is redelivered, sent once, and acknowledged then."""
    harness = Harness(confirming(), "s1", begun=False)
    harness.queue.bring(body("j0"), "j0")
    harness.queue.bring(body("j1"), "j1")
    harness.queue.break_link()
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.begin()
    await turns()
    assert harness.routed() == ["j1"]
    assert harness.queue.acked == [1]


@pytest.mark.parametrize("confirmed", [True, False])
async def test_core_drops_second_request_of_same_id(confirmed: bool) -> None:  # noqa: FBT001
    """A second request of the same id is dropped and counted, in flight or long sent."""
    harness = Harness(confirming() if confirmed else FakePublisher(), "s1", "s2")
    harness.queue.bring(body("j1"), "j1")
    if confirmed:
        await turns()
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert len(harness.publisher.routed()) == 1
    assert 2 in harness.queue.acked
    assert harness.count("duplicate_requests_total") == 1


@pytest.mark.parametrize("last", [State.COMPLETED, State.CANCELLED, State.EXPIRED, State.PARKED])
async def test_core_acknowledges_redelivered_request_of_ended_job(last: State) -> None:
    """Another dispatcher ended before it acknowledged it; the event log has the job's end."""
    harness = Harness(confirming(), "s1", begun=False)
    harness.read_events(assigned("j1", "s1"), Event(last, AT, job="j1"))
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.begin()
    await turns()
    assert harness.routed() == []
    assert harness.publisher.events() == [Event(last, AT, job="j1")]
    assert len(harness.publisher.sent) == 1
    assert harness.queue.acked == [1]


async def test_core_resends_to_substation_that_another_dispatcher_chose() -> None:
    """A copy there is recognised as one; at another substation it would be charged twice."""
    harness = Harness(recording(), "s1", "s2", connectors=2, begun=False)
    harness.read("s1", load=2)  # full, and so the worst choice
    harness.read_events(assigned("j1", "s1"))
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.begin()
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]
    (event,) = harness.publisher.events()
    assert (event.kind, event.substation) == (State.ASSIGNED, "s1")
    assert event.detail["reason"] == SENT_AGAIN
    assert harness.tracker.substations["s1"].load == 3
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.queue.acked == [1]


async def test_core_resends_to_substation_that_charges_the_job() -> None:
    """The session is newer than the last decision, whose job may not have arrived."""
    harness = Harness(confirming(), "s1", "s2", begun=False)
    charging = Event(State.CHARGING, AT + 1, job="j1", substation="s2", attempt=1)
    harness.read_events(charging, assigned("j1", "s1"))
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.begin()
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]


@pytest.mark.parametrize("where", ["dead", "gone"])
async def test_core_decides_anew_on_request_sent_to_lost_substation(where: str) -> None:
    """What waits at a dead substation is reclaimed from there; the request goes to another."""
    harness = Harness(confirming(), "s1", "s2", begun=False)
    if where == "dead":
        harness.fail_page("s1")
        harness.now += harness.tracker.stale_after
        harness.fail_page("s1")
        harness.read("s2")
    else:
        harness.tracker.keep({"s2": None})
    harness.read_events(assigned("j1", "s1"))
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.begin()
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.queue.acked == [1]


async def test_core_resends_to_same_substation_after_one_late_page() -> None:
    """A single late page does not mean that the substation has stopped charging."""
    harness = Harness(confirming(), "s1", "s2", begun=False)
    harness.fail_page("s1")
    harness.read_events(assigned("j1", "s1"))
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.begin()
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]


async def test_core_resends_to_same_substation_before_its_first_page() -> None:
    """A dispatcher that has just started has no page yet, and must not charge a job twice."""
    harness = Harness(confirming(), "s2", begun=False)
    harness.tracker.keep({"s1": None, "s2": None})
    harness.read_events(assigned("j1", "s1"))
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.begin()
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]
    assert harness.queue.acked == [1]


async def test_core_sends_resent_job_elsewhere_when_its_queue_refuses_it() -> None:
    """The job is not there, so any other substation will do."""
    harness = Harness(recording(), "s1", "s2", begun=False)
    harness.read_events(assigned("j1", "s1"))
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.begin()
    await turns()
    harness.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1"), ("j1", "s2")]


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.UNROUTABLE])
async def test_core_leaves_session_alone_when_the_second_copy_of_its_job_is_refused(
    outcome: Outcome,
) -> None:
    """The log says that it charges there: sent elsewhere, it would be charged twice."""
    harness = Harness(recording(), "s1", "s2", begun=False)
    harness.read_events(assigned("j1", "s1"), Event(State.CHARGING, AT, "j1", "s1"))
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.begin()
    await turns()
    harness.publisher.answer(SUBSTATIONS, outcome)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]
    assert harness.queue.acked == [1]
    assert harness.tracker.substations["s1"].load == 0, "the copy is not in flight any more"


async def test_core_logs_that_a_session_goes_on_though_its_decision_is_recorded_late(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its substation's queue has refused the second copy by then: it was not sent there."""
    caplog.set_level("DEBUG")
    harness = Harness(FakePublisher(), "s1", "s2", begun=False)
    harness.read_events(assigned("j1", "s1"), Event(State.CHARGING, AT, "j1", "s1"))
    harness.queue.bring(body("j1"), "j1", again=True)
    harness.begin()
    await turns()
    harness.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert harness.queue.acked == []
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == [1]
    assert "left to its session at s1" in caplog.text
    assert "sent to s1" not in caplog.text


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.UNROUTABLE])
async def test_core_keeps_reclaimed_job_that_its_restarted_substation_refuses(
    outcome: Outcome,
) -> None:
    """The log has no end of the session that was killed: the job is not charging any more."""
    harness = Harness(recording(), "s1", "s2")
    harness.read_events(assigned("j1", "s1"), Event(State.CHARGING, AT, "j1", "s1"))
    harness.fail_page("s1")
    assert harness.reclaim.deliver("s1", body("j1", "s1"), "j1")
    await turns()
    harness.arrive("s1")
    harness.route()
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]
    harness.publisher.answer(SUBSTATIONS, outcome)
    await turns()
    assert harness.reclaim.acked == []
    assert harness.in_hand().jobs == {"j1"}
    assert harness.core.waiting == 1


async def test_core_sends_requeued_job_elsewhere_that_its_killed_substation_refuses() -> None:
    """Its copy goes where the log has the session, in case it lives; else to another."""
    harness = Harness(recording(), "s1", "s2", connectors=2)
    harness.read_events(assigned("j1", "s1"), Event(State.CHARGING, AT, "j1", "s1"))
    harness.fail_page("s1")
    harness.read("s2", load=2)
    assert harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    harness.now += MAX_HELD_SECONDS + 1
    harness.shell.tick()
    harness.publisher.answer(topology.REQUESTS)
    await turns()
    harness.queue.bring(body("j1"), "j1", headers=harness.publisher.headers["j1"])
    await turns()
    harness.publisher.answer(SUBSTATIONS, Outcome.UNROUTABLE)
    await turns()
    harness.read("s2", load=0)
    await turns()
    assert harness.publisher.routed()[-1] == ("j1", "s2")


async def test_core_logs_that_a_queue_refused_a_job(caplog: pytest.LogCaptureFixture) -> None:
    """The trace would show only where it was sent in the end."""
    caplog.set_level("DEBUG")
    harness = Harness(recording(), "s1", "s2")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    [(_, first)] = harness.publisher.routed()
    harness.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert f"not taken by the queue of {first}: {Outcome.REFUSED.value}" in caplog.text


class Mistaken(Exception):
    """An error that no code expects."""


async def test_core_rejects_request_over_which_the_decision_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is rejected, so the next process does not fail on it; the others are sent once each."""
    harness = Harness(confirming(), "s1")

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
        harness.queue.bring(body(job), job)
    await turns()
    assert [type(each) for each in told] == [Mistaken], "which ends the service"
    assert harness.queue.rejected == [2]
    harness.shell.tick()
    await turns()
    assert sorted(harness.routed()) == ["j1", "j2"]


async def test_core_rejects_reclaimed_job_over_which_the_decision_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is rejected; otherwise the next process would reclaim it and fail as well."""
    harness = Harness(confirming(), "s1", "s2")
    harness.fail_page("s1")
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: told.append(context["exception"].__cause__)
    )

    def failing(*_: object, **__: object) -> object:
        raise Mistaken

    monkeypatch.setattr(Explainer, "explanation", failing)
    assert harness.reclaim.deliver("s1", body("poison"), "poison")
    await turns()
    assert [type(each) for each in told] == [Mistaken], "which ends the service"
    assert harness.reclaim.rejected == [1]
    assert harness.reclaim.outstanding == {}


async def test_core_rejects_waiting_request_over_which_a_check_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of all waiting requests, only the one on which the code fails is rejected."""
    harness = Harness(confirming())
    harness.queue.bring(body("j1"), "j1")
    harness.queue.bring(body("poison", requested_power_kw=66), "poison")
    harness.queue.bring(body("j2"), "j2")
    await turns()

    def failing(_: object, power_kw: float, *__: object) -> None:
        if power_kw == 66:
            raise Mistaken

    monkeypatch.setattr("dispatcher.lifecycle.reason_never", failing)
    with pytest.raises(Mistaken):
        harness.shell.tick()
    assert harness.queue.rejected == [2]
