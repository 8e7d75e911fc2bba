"""A request from delivery to acknowledgement, without faults."""

from __future__ import annotations

from collections import Counter

import pytest

from grid import events, provenance, topology
from grid.amqp import Outcome
from grid.events import Event, State
from scheduling import policies
from tests.dispatcher.harness import AT, SUBSTATIONS, Harness, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


async def test_core_sends_request_unchanged_records_and_acknowledges_it() -> None:
    """One request goes to one substation byte by byte, with the decision in the event log."""
    harness = Harness(confirming(), "s1", "s2")
    text = body("j1")[:-1] + b' , "added_later": 1}'
    harness.queue.bring(text, "j1")
    await turns()
    sent = harness.publisher.to(SUBSTATIONS)
    assert [each.body for each in sent] == [text]
    (event,) = harness.publisher.events()
    assert (event.kind, event.job, event.attempt, event.at) == (State.ASSIGNED, "j1", 1, AT)
    assert event.substation == sent[0].key
    assert event.detail["requested_at"] == AT - 1
    assert {each["substation"] for each in event.detail["candidates"]} == {"s1", "s2"}
    assert harness.queue.acked == [1]
    assert harness.count("decisions_total", substation=sent[0].key) == 1
    assert harness.count("decision_seconds_count") == 1
    assert harness.count("request_to_assignment_seconds_sum") == 1


async def test_core_writes_decisions_of_one_turn_as_one_message_before_their_jobs() -> None:
    """The event log has a job's decision before its substation can write an event of the job."""
    harness = Harness(confirming(), "s1", "s2")
    for number in range(3):
        harness.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    exchanges = [each.exchange for each in harness.publisher.sent]
    assert exchanges == [topology.EVENTS_EXCHANGE, SUBSTATIONS, SUBSTATIONS, SUBSTATIONS]
    assert [each.job for each in harness.publisher.events()] == ["j0", "j1", "j2"]


async def test_core_writes_each_decision_before_its_job() -> None:
    """Also if more jobs are assigned at once than one message of the event log has room for."""
    harness = Harness(confirming(), "s1", "s2", connectors=400)
    for number in range(600):
        harness.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    written: set[str] = set()
    for each in harness.publisher.sent:
        if each.exchange == topology.EVENTS_EXCHANGE:
            written |= {event.job for event in events.decode(each.body)}
        else:
            assert each.id in written
    assert len(harness.publisher.routed()) == 600


@pytest.mark.parametrize("first", [SUBSTATIONS, topology.EVENTS])
async def test_core_acknowledges_only_after_job_and_decision_are_confirmed(first: str) -> None:
    """RabbitMQ must have both the job and the record of its decision, in either order."""
    harness = Harness(FakePublisher(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert harness.queue.acked == []
    assert harness.publishing("s1") == 1
    harness.publisher.answer(first)
    await turns()
    assert harness.queue.acked == []
    harness.publisher.answer(topology.EVENTS if first == SUBSTATIONS else SUBSTATIONS)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.publishing("s1") == 0


async def test_core_decides_nothing_before_begin() -> None:
    """Earlier deliveries are handled at the beginning, in order, and nothing before it."""
    harness = Harness(confirming(), "s1", begun=False)
    for job in ("j0", "j1", "j2"):
        harness.queue.bring(body(job), job)
    harness.queue.bring(b"?", "bad")
    harness.queue.bring(body("nowhere", "s9"), "nowhere")
    harness.read("s1")
    harness.shell.tick()
    await turns()
    assert harness.publisher.sent == []
    harness.begin()
    await turns()
    assert harness.routed() == ["j0", "j1", "j2"]
    assert sorted(harness.queue.acked) == [1, 2, 3, 4, 5]
    harness.queue.bring(body("j3"), "j3")
    await turns()
    assert harness.routed()[3:] == ["j3"]


@pytest.mark.parametrize("policy", policies.POLICIES)
async def test_core_holds_requests_while_all_substations_are_full(policy: str) -> None:
    """With every policy, no substation is sent more than it can charge."""
    harness = Harness(confirming(), "s1", "s2", "s3", connectors=2, policy=policy)
    for number in range(9):
        harness.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    sent = Counter(each.key for each in harness.publisher.to(SUBSTATIONS))
    assert sent == {"s1": 2, "s2": 2, "s3": 2}
    assert harness.core.waiting == 3
    assert {event.detail["policy"] for event in harness.publisher.events()} == {policy}
    harness.read("s2", 1)
    await turns()
    assert harness.publisher.to(SUBSTATIONS)[6].key == "s2"
    assert harness.core.waiting == 2


async def test_core_dispatches_one_job_ahead_to_each_full_substation() -> None:
    """While many wait, the next job is there when a connector becomes free; never more than one."""
    harness = Harness(confirming(), "s1", "s2", connectors=2)
    for number in range(20):
        harness.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    assert Counter(name for _, name in harness.publisher.routed()) == {"s1": 3, "s2": 3}
    assert harness.core.waiting == 14


async def test_core_sends_waiting_request_when_an_event_reports_capacity() -> None:
    """While all are full a request waits; it is sent when the event of a completion is read."""
    harness = Harness(confirming(), "s1", "s2", "s3", connectors=2)
    for name in ("s1", "s2", "s3"):
        harness.read(name, load=2)
    for number in range(3):
        harness.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    assert harness.publisher.routed() == []
    assert harness.count("waiting_requests") == 3
    counts = harness.tracker.substations["s1"].counts
    assert counts is not None
    counts = counts._replace(load=1, completed=counts.completed + 1)
    over = Event(State.COMPLETED, AT, job="x", substation="s1", counts=counts)
    harness.read_events(over)
    await turns()
    assert harness.publisher.routed() == [("j0", "s1")]
    harness.read_events(over)  # read twice
    harness.read_log(b"nonsense", provenance.DISPATCHER)
    await turns()
    assert len(harness.publisher.routed()) == 1
    assert harness.queue.acked == [1]


async def test_core_serves_waiting_by_priority_then_laxity_then_age() -> None:
    """The order of delivery does not matter."""
    harness = Harness(confirming(), "s1", connectors=1)
    harness.read("s1", load=1)
    asked: dict[str, dict[str, float]] = {
        "young": {},
        "soon": {"departure_time": AT + 3_600},
        "sooner": {  # it departs later, but needs two hours
            "departure_time": AT + 7_300, "requested_energy_kwh": 22.0, "requested_power_kw": 11.0,
        },
        "urgent": {"priority": 5},
    }  # fmt: skip
    for job, fields in asked.items():
        harness.queue.bring(body(job, **fields), job)
    old = body("old").replace(f'"requested_at":{AT - 1}'.encode(), b'"requested_at":1.0')
    harness.queue.bring(old, "old")
    await turns()
    assert harness.routed() == ["urgent"], "sent ahead, since others wait"
    for _ in range(4):
        harness.read("s1", load=0)
        await turns()
    assert harness.routed() == ["urgent", "sooner", "soon", "old", "young"]


async def test_core_serves_others_while_one_request_waits_for_a_full_substation() -> None:
    """Those behind it go elsewhere; among those that wait, the oldest goes first."""
    harness = Harness(confirming(), "s1", "s2", "s3", "s4", "s5", connectors=4)
    harness.read("s1", load=4)
    for job, only in (("j1", ["s1"]), ("j2", ["s2"]), ("j3", ["s1"]), ("j4", ["s2"])):
        harness.queue.bring(body(job, *only), job)
    await turns()
    assert harness.publisher.routed() == [("j2", "s2"), ("j4", "s2")]
    assert harness.core.waiting == 2
    assert harness.queue.acked == [2, 4], "they do not wait for those before them"
    harness.read("s1", load=3)
    await turns()
    assert harness.publisher.routed()[2:] == [("j1", "s1")]
    harness.read("s1", load=3)
    await turns()
    assert harness.publisher.routed()[3:] == [("j3", "s1")]


async def test_core_sends_nothing_to_substation_of_unknown_load() -> None:
    """Of two substations, the one whose page failed gets no job, and the metrics show it."""
    harness = Harness(confirming(), "s1", "s2", connectors=5)
    harness.fail_page("s1", "ev_charging_load is nan")
    for number in range(6):
        harness.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    assert {name for _, name in harness.publisher.routed()} == {"s2"}
    assert harness.core.waiting == 1
    assert harness.count("substation_eligible", substation="s1") == 0
    assert harness.count("scrapes_total", substation="s1", outcome="failed") == 1
    (first, *_) = harness.publisher.events(State.ASSIGNED)
    by_name = {each["substation"]: each for each in first.detail["candidates"]}
    assert by_name["s1"]["reason"] == "ev_charging_load is nan"


async def test_core_spreads_burst_within_one_scrape_period_evenly() -> None:
    """300 requests, no new reading, three substations: 100 each."""
    harness = Harness(confirming(), "s1", "s2", "s3", connectors=100)
    for number in range(300):
        harness.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    counts = {n: harness.count("decisions_total", substation=n) for n in ("s1", "s2", "s3")}
    assert counts == dict.fromkeys(counts, 100)
    assert harness.queue.outstanding == {}


async def test_core_acknowledges_all_confirmed_requests_when_it_stops() -> None:
    """Jobs behind a waiting one are not sent again because the dispatcher was stopped."""
    harness = Harness(confirming(), "s1", "s2")
    harness.fail_page("s2")
    harness.queue.bring(body("waits", "s2"), "waits")
    for number in range(3):
        harness.queue.bring(body(f"j{number}"), f"j{number}")
    await turns(3)
    await harness.shell.stop()
    assert harness.queue.stopped
    harness.queue.bring(body("late"), "late")
    harness.read("s2")
    harness.shell.tick()
    await turns()
    assert not {"late", "waits"} & set(harness.routed())
    harness.queue.close()
    assert sorted(harness.queue.acked) == [2, 3, 4]


async def test_shell_waits_for_jobs_in_flight_when_it_stops() -> None:
    """A job that RabbitMQ confirms while the dispatcher ends is acknowledged, and charged once."""
    harness = Harness(FakePublisher(charge_events=Outcome.CONFIRMED), "s1")
    harness.publisher.automatic[SUBSTATIONS] = Outcome.CONFIRMED
    harness.queue.bring(body("j1"), "j1")
    harness.route()
    assert harness.queue.acked == []
    await harness.shell.stop()
    harness.queue.close()
    assert harness.queue.acked == [1]
