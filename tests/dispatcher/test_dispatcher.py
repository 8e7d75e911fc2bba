from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from dispatcher import acknowledger, parking
from dispatcher.decision import policy as policies
from dispatcher.dispatcher import MALFORMED, NO_SUCH_SUBSTATION, Dispatcher
from dispatcher.decision.ledger import Ledger
from dispatcher.parking import REASON_HEADER
from dispatcher.readings import Reading
from dispatcher.telemetry import LedgerCollector, Metrics
from dispatcher.watch import SubstationWatch, Turn
from grid import event_log, events, topology
from grid.amqp import Outcome
from grid.event_log import EventWriter
from grid.events import Counts, Event, State
from grid.messages import MAX_BODY_BYTES, ChargeRequest
from tests.fake_broker import FakeConsumer, FakePublisher, turns

SUBSTATIONS = topology.SUBSTATIONS_EXCHANGE
AT = 1_000.0
PREFETCH = 20


def body(id: str, *eligible: str) -> bytes:
    """Give a request's bytes."""
    return ChargeRequest(id, AT - 1, eligible_substations=eligible).encode()


class Bench:
    """A dispatcher between a queue and a publisher that are scripted.

    Its wall clock stands still; the ledger's moves on with every page.
    """

    def __init__(
        self,
        publisher: FakePublisher,
        *names: str,
        connectors: int = 10,
        policy: str = policies.DEFAULT,
    ) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.publisher = publisher
        self.now = 0.0
        self.ledger = Ledger(stale_after=1e9, default_connectors=connectors)
        self.missing: list[str] = []
        self.dispatcher = Dispatcher(
            self.ledger,
            policies.policy(policy),
            publisher,
            EventWriter(publisher, "test"),
            self.metrics,
            random=Random(1),  # noqa: S311
            clock=lambda: AT,
            now=lambda: self.now,
            on_missing_queue=self.missing.append,
        )
        self.queue = FakeConsumer(self.dispatcher.deliver, self.dispatcher.forget)
        self.dispatcher.connect(self.queue, PREFETCH)
        self.watch = SubstationWatch(
            self.ledger,
            self.dispatcher.route,
            self.missing.append,
            self.metrics,
            Turn("this", lambda: self.now),
        )
        self.registry.register(
            LedgerCollector(self.dispatcher.candidates, lambda: self.dispatcher.waiting)
        )
        self.ledger.keep(dict.fromkeys(names))
        for name in names:
            self.read(name)

    def read(self, name: str, load: float = 0) -> None:
        """Have a substation read that exports only its load."""
        self.now += 1
        self.watch.on_reading(name, Reading(load), self.now)

    def count(self, name: str, **labels: str) -> float:
        """Give a metric's value."""
        return self.registry.get_sample_value(f"dispatcher_{name}", labels) or 0.0


def confirming() -> FakePublisher:
    """Make a publisher whose broker confirms everything at once."""
    return FakePublisher(
        charge_substations=Outcome.CONFIRMED,
        charge_events=Outcome.CONFIRMED,
        charge_parked=Outcome.CONFIRMED,
        charge_requests=Outcome.CONFIRMED,
    )


@pytest.fixture(autouse=True, scope="module")
def _no_waiting() -> Iterator[None]:
    """Have what the dispatcher puts off done in the next turn of the loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acknowledger, "GAP_SECONDS", 0)
        patch.setattr(parking, "RETRY_SECONDS", 0)
        patch.setattr(event_log, "TRIES", 1)
        yield


async def test_a_request_is_sent_unchanged_recorded_and_acknowledged() -> None:
    """One request goes to one substation byte by byte, with the decision in the event log."""
    bench = Bench(confirming(), "s1", "s2")
    text = body("j1")[:-1] + b' , "added_later": 1}'
    bench.queue.bring(text, "j1")
    await turns()
    sent = bench.publisher.to(SUBSTATIONS)
    assert [each.body for each in sent] == [text]
    (event,) = bench.publisher.events()
    assert (event.kind, event.job, event.attempt, event.at) == (State.ASSIGNED, "j1", 1, AT)
    assert event.substation == sent[0].key
    assert event.detail["requested_at"] == AT - 1
    assert [each["substation"] for each in event.detail["candidates"]] == ["s1", "s2"]
    assert bench.queue.acked == [1]
    assert bench.count("decisions_total", substation=sent[0].key) == 1
    assert bench.count("request_to_assignment_seconds_sum") == 1


async def test_decisions_of_one_turn_go_out_as_one_message_before_their_jobs() -> None:
    """The event log has a job's decision before its substation can write a word of it."""
    bench = Bench(confirming(), "s1", "s2")
    for number in range(3):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    exchanges = [each.exchange for each in bench.publisher.sent]
    assert exchanges == [topology.EVENTS, SUBSTATIONS, SUBSTATIONS, SUBSTATIONS]
    assert [each.job for each in bench.publisher.events()] == ["j0", "j1", "j2"]


@pytest.mark.parametrize("policy", policies.POLICIES)
async def test_full_means_wait_whatever_the_policy(policy: str) -> None:
    """No substation is sent more than it can charge, and the rest waits until one has room."""
    bench = Bench(confirming(), "s1", "s2", "s3", connectors=2, policy=policy)
    for number in range(10):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    sent = Counter(each.key for each in bench.publisher.to(SUBSTATIONS))
    assert sent == {"s1": 2, "s2": 2, "s3": 2}
    assert bench.dispatcher.waiting == 4
    assert {event.detail["policy"] for event in bench.publisher.events()} == {policy}
    bench.read("s2", 1)
    await turns()
    assert bench.publisher.to(SUBSTATIONS)[6].key == "s2"
    assert bench.dispatcher.waiting == 3


async def test_a_decision_is_on_its_way_before_its_job() -> None:
    """The event log has a job's decision before its substation's first word of it."""
    bench = Bench(confirming(), "s1", "s2")
    for number in range(5):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    written: set[str] = set()
    for each in bench.publisher.sent:
        if each.exchange == topology.EVENTS:
            written |= {event.job for event in events.decode(each.body)}
        else:
            assert each.properties.message_id in written


@pytest.mark.parametrize("first", [SUBSTATIONS, topology.EVENTS])
async def test_nothing_is_acknowledged_before_job_and_decision_are_confirmed(first: str) -> None:
    """RabbitMQ must have both the job and the record of its decision, in either order."""
    bench = Bench(FakePublisher(), "s1")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    assert bench.queue.acked == []
    assert bench.dispatcher.sending("s1") == 1
    bench.publisher.answer(first)
    await turns()
    assert bench.queue.acked == []
    bench.publisher.answer(topology.EVENTS if first == SUBSTATIONS else SUBSTATIONS)
    await turns()
    assert bench.queue.acked == [1]
    assert bench.dispatcher.sending("s1") == 0


async def test_a_decision_that_the_log_refuses_holds_nothing_up() -> None:
    """An event that is lost is counted; the job goes on."""
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
async def test_a_job_that_a_queue_does_not_take_goes_elsewhere(
    outcome: Outcome, declared: list[bool]
) -> None:
    """A full queue and a missing one cost a second attempt; the missing one is declared."""
    bench = Bench(FakePublisher(charge_events=Outcome.CONFIRMED), "s1", "s2")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.publisher.answer(SUBSTATIONS, outcome)
    await turns()
    (_, first), (_, second) = bench.publisher.routed()
    assert {first, second} == {"s1", "s2"}
    assert bench.missing == [first] * len(declared)
    assert bench.ledger.accounts[first].load == 0
    assert outcome.value in str(bench.ledger.accounts[first].problem)
    assert bench.queue.acked == []
    assert [each.attempt for each in bench.publisher.events()] == [1, 2]
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.queue.acked == [1]
    assert bench.count("refused_jobs_total", substation=first) == 1
    assert bench.count("decisions_total", substation=first) == 0


async def test_a_job_that_no_queue_takes_waits_for_the_next_page() -> None:
    """Refused everywhere, it stays in hand, and goes as soon as a substation is read again."""
    bench = Bench(FakePublisher(charge_events=Outcome.CONFIRMED), "s1")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert len(bench.publisher.routed()) == 1
    assert bench.dispatcher.waiting == 1
    bench.read("s1")
    await turns()
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.queue.acked == [1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\x00", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"version":2,"id":"j1","requested_at":1}', "version is 2"),
        (b'{"version":1,"id":"j1","requested_at":1,"priority":"high"}', "priority"),
        (b'{"version":1,"requested_at":1}', "id is missing"),
        (b" " * (MAX_BODY_BYTES + 1), f"{MAX_BODY_BYTES + 1} bytes"),
    ],
)
async def test_what_cannot_be_processed_is_parked(text: bytes, why: str) -> None:
    """It goes to charge.parked with the reason, and is acknowledged once it is there."""
    bench = Bench(FakePublisher(charge_events=Outcome.CONFIRMED), "s1")
    bench.queue.bring(text, "bad")
    await turns()
    (parked,) = bench.publisher.to(topology.PARKED)
    assert parked.body == text
    assert why in bench.publisher.headers["bad"][REASON_HEADER]
    assert bench.queue.acked == []
    bench.publisher.answer(topology.PARKED)
    await turns()
    assert bench.queue.acked == [1]
    (event,) = bench.publisher.events(State.PARKED)
    assert event.job == "bad"
    assert why in event.reason
    assert bench.count("parked_total", reason=MALFORMED) == 1
    bench.queue.bring(body("good"), "good")
    await turns()
    assert bench.publisher.routed() == [("good", "s1")]


@pytest.mark.parametrize("id", [None, "", "not an id", "x" * 65])
async def test_what_is_parked_has_a_name(id: str | None) -> None:
    """A message without a usable id is given one, so that the event log can name it."""
    bench = Bench(confirming(), "s1")
    bench.queue.bring(b"?", id)
    await turns()
    (event,) = bench.publisher.events(State.PARKED)
    assert event.job.startswith("unnamed-")
    assert bench.queue.acked == [1]


async def test_parking_is_tried_again_until_it_is_confirmed() -> None:
    """While charge.parked takes nothing, the message is neither lost nor acknowledged."""
    bench = Bench(FakePublisher(charge_events=Outcome.CONFIRMED), "s1")
    bench.queue.bring(b"?", "bad")
    for _ in range(3):
        bench.publisher.answer(topology.PARKED, Outcome.REFUSED)
        await turns()
    assert len(bench.publisher.to(topology.PARKED)) == 4
    assert bench.queue.acked == []
    bench.publisher.answer(topology.PARKED)
    await turns()
    assert bench.queue.acked == [1]


async def test_parking_of_a_link_that_broke_acknowledges_nothing() -> None:
    """A tag of an older link means another message now."""
    bench = Bench(FakePublisher(charge_events=Outcome.CONFIRMED), "s1")
    bench.queue.bring(b"?", "bad")
    bench.queue.break_link()
    bench.queue.bring(body("j1"), "j1")  # it has the same tag
    bench.publisher.answer(topology.PARKED)
    await turns()
    assert bench.queue.acked == []


async def test_substations_that_do_not_exist_are_a_reason_to_park() -> None:
    """A request that names none of the substations there are could wait forever."""
    bench = Bench(confirming(), "s1", "s2")
    bench.queue.bring(body("j1", "s9", "s8"), "j1")
    await turns()
    (event,) = bench.publisher.events()
    assert (event.kind, event.job) == (State.PARKED, "j1")
    assert event.reason == f"{NO_SUCH_SUBSTATION}: s9, s8"
    assert bench.queue.acked == [1]
    assert bench.publisher.routed() == []
    bench.queue.bring(body("j2", "s9", "s2"), "j2")
    await turns()
    assert bench.publisher.routed() == [("j2", "s2")]


async def test_before_the_substations_are_known_nothing_is_parked() -> None:
    """A dispatcher that has not read its target file yet holds what names substations."""
    bench = Bench(confirming())
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    assert bench.dispatcher.waiting == 1
    bench.ledger.keep({"s1": None})
    bench.read("s1")
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]


async def test_a_job_in_flight_is_not_sent_twice_after_the_link_broke() -> None:
    """Delivered again while its confirm is on the way, it is acknowledged by its new tag."""
    bench = Bench(FakePublisher(charge_events=Outcome.CONFIRMED), "s1")
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


async def test_a_job_confirmed_after_the_link_broke_is_known_when_it_comes_again() -> None:
    """Its acknowledgement was lost, not its job: the second delivery is acknowledged, no more."""
    bench = Bench(FakePublisher(charge_events=Outcome.CONFIRMED), "s1")
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


async def test_a_job_refused_after_the_link_broke_comes_back_from_the_queue() -> None:
    """What no longer has a delivery is left to RabbitMQ, which delivers it again."""
    bench = Bench(FakePublisher(charge_events=Outcome.CONFIRMED), "s1", "s2")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.queue.break_link()
    bench.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert len(bench.publisher.routed()) == 1
    assert bench.dispatcher.waiting == 0
    bench.queue.bring(body("j1"), "j1", again=True)
    await turns()
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert len(bench.publisher.routed()) == 2
    assert bench.queue.acked == [1]


async def test_what_waits_when_the_link_breaks_is_forgotten_and_comes_again() -> None:
    """A request held for room is held once, whatever the link does."""
    bench = Bench(confirming(), "s1", connectors=1)
    bench.read("s1", load=1)
    for _ in range(3):
        bench.queue.bring(body("j1"), "j1")
        assert bench.dispatcher.waiting == 1
        bench.queue.break_link()
        assert bench.dispatcher.waiting == 0
    bench.queue.bring(body("j1"), "j1", again=True)
    bench.read("s1", load=0)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]
    assert bench.queue.acked == [1]


@pytest.mark.parametrize("confirmed", [True, False])
async def test_the_same_id_twice_is_one_job(confirmed: bool) -> None:  # noqa: FBT001
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


async def test_what_is_known_of_sent_jobs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest ids are forgotten first."""
    monkeypatch.setattr("dispatcher.dispatcher.REMEMBERED", 3)
    bench = Bench(confirming(), "s1")
    for job in ("j1", "j2", "j3", "j4", "j2", "j1"):
        bench.queue.bring(body(job), job)
        await turns()
    assert [job for job, _ in bench.publisher.routed()] == ["j1", "j2", "j3", "j4", "j1"]


async def test_full_means_wait_until_a_completion_is_heard() -> None:
    """A request waits here while all are full, and goes as soon as an event tells of room."""
    bench = Bench(confirming(), "s1", connectors=2)
    counts = Counts(2, 2, 0, 0, AT)
    page = Reading(2, 2, counts=counts)
    bench.watch.on_reading("s1", page, 0.0)
    bench.ledger.ask_depth("s1")
    bench.ledger.depth("s1", 0, 0.0)
    bench.watch.on_reading("s1", page, 0.0)
    for number in range(3):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    assert bench.publisher.routed() == []
    assert bench.count("waiting_requests") == 3
    over = Event("completed", AT, job="x", substation="s1", counts=Counts(1, 2, 1, 0, AT))
    bench.watch.on_events(events.encode([over]))
    await turns()
    assert bench.publisher.routed() == [("j0", "s1")]
    bench.watch.on_events(events.encode([over]))  # read twice
    bench.watch.on_events(b"nonsense")
    await turns()
    assert len(bench.publisher.routed()) == 1
    assert bench.queue.acked == [1]


async def test_a_request_that_fits_only_a_full_substation_holds_up_no_other() -> None:
    """Those behind it go elsewhere meanwhile; among those that wait, the oldest goes first."""
    bench = Bench(confirming(), "s1", "s2", connectors=4)
    bench.read("s1", load=4)
    for job, only in (("j1", ["s1"]), ("j2", []), ("j3", ["s1"]), ("j4", ["s2"]), ("j5", ["s1"])):
        bench.queue.bring(body(job, *only), job)
    await turns()
    assert bench.publisher.routed() == [("j2", "s2"), ("j4", "s2")]
    assert bench.dispatcher.waiting == 3
    await turns()
    assert bench.queue.acked == [2, 4], "they do not wait for those before them"
    bench.read("s1", load=3)
    await turns()
    assert bench.publisher.routed()[2:] == [("j1", "s1")]
    bench.read("s1", load=3)
    await turns()
    assert bench.publisher.routed()[3:] == [("j3", "s1")]


async def test_nothing_goes_where_the_load_is_not_known() -> None:
    """Of two substations the one with a failed page gets nothing, and the metrics say so."""
    bench = Bench(confirming(), "s1", "s2", connectors=5)
    bench.watch.on_failure("s1", "ev_charging_load is nan")
    for number in range(8):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    assert {name for _, name in bench.publisher.routed()} == {"s2"}
    assert bench.dispatcher.waiting == 3
    assert bench.count("substation_eligible", substation="s1") == 0
    assert bench.count("scrapes_total", substation="s1", outcome="failed") == 1
    (first, *_) = bench.publisher.events(State.ASSIGNED)
    by_name = {each["substation"]: each for each in first.detail["candidates"]}
    assert by_name["s1"]["reason"] == "ev_charging_load is nan"


async def test_a_burst_within_one_scrape_period_spreads_evenly() -> None:
    """300 requests, no new reading, three substations: 100 each."""
    bench = Bench(confirming(), "s1", "s2", "s3", connectors=100)
    for number in range(300):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    await turns()
    counts = {n: bench.count("decisions_total", substation=n) for n in ("s1", "s2", "s3")}
    assert counts == dict.fromkeys(counts, 100)
    assert bench.queue.outstanding == {}


ANSWERS = {
    "confirm": (SUBSTATIONS, Outcome.CONFIRMED),
    "refuse": (SUBSTATIONS, Outcome.REFUSED),
    "miss": (SUBSTATIONS, Outcome.UNROUTABLE),
    "record": (topology.EVENTS, Outcome.CONFIRMED),
    "lose": (topology.EVENTS, Outcome.REFUSED),
    "park": (topology.PARKED, Outcome.CONFIRMED),
}
STEP = st.sampled_from(["new", "new", "confirm", "again", "break", "read", "bad", *ANSWERS])


class Story:
    """A dispatcher to which anything happens; ``accepted`` is what RabbitMQ has confirmed."""

    def __init__(self) -> None:
        self.bench = Bench(FakePublisher(), "s1", "s2", connectors=3)
        self.bodies: dict[str, bytes] = {}
        self.accepted: set[str] = set()

    def step(self, step: str) -> None:
        """Let one thing happen, if it can."""
        if step in ANSWERS:
            self.answer(*ANSWERS[step])
        elif step in ("new", "bad"):
            job = f"{step}{len(self.bodies)}"
            self.bodies[job] = body(job) if step == "new" else b"?"
            self.bench.queue.bring(self.bodies[job], job)
        elif step == "again" and self.bodies:
            job = list(self.bodies)[-1]
            self.bench.queue.bring(self.bodies[job], job)
        elif step == "break":
            for each in self.bench.queue.break_link():
                self.bench.queue.bring(each.body, each.id, again=True)
        elif step == "read":
            self.bench.read("s1")
            self.bench.read("s2")

    def answer(self, exchange: str, outcome: Outcome) -> None:
        """Answer the oldest message that waits for it on an exchange, if there is one."""
        if waiting := self.bench.publisher.to(exchange, self.bench.publisher.waiting):
            if outcome is Outcome.CONFIRMED and exchange != topology.EVENTS:
                self.accepted.add(str(waiting[0].properties.message_id))
            self.bench.publisher.answer(exchange, outcome)

    def check(self) -> None:
        """Check that every request is in RabbitMQ's hands, before or behind the dispatcher."""
        held = {str(each.id) for each in self.bench.queue.outstanding.values()}
        assert self.bodies.keys() <= held | self.accepted, "acknowledged before RabbitMQ had it"


@settings(max_examples=100)
@given(st.lists(STEP, max_size=60))
def test_no_order_of_things_loses_a_request(steps: list[str]) -> None:
    """Whatever RabbitMQ answers, in any order: each request ends sent or parked, and then acked."""
    asyncio.run(_go_through(steps))


async def _go_through(steps: list[str]) -> None:
    story = Story()
    for step in steps:
        story.step(step)
        await turns(3)
        story.check()
    bench = story.bench
    while story.bench.publisher.waiting or bench.dispatcher.waiting:
        for step in ("confirm", "record", "park", "read"):
            story.step(step)
        await turns(3)
        story.check()
    assert story.bodies.keys() <= story.accepted
    assert bench.queue.outstanding == {}
    assert bench.dispatcher.sending("s1") == bench.dispatcher.sending("s2") == 0
    assert all(job.startswith("new") for job, _ in bench.publisher.routed())


async def test_at_the_end_all_that_was_confirmed_is_acknowledged() -> None:
    """Jobs behind one that waits are not charged twice because their dispatcher was told to end."""
    bench = Bench(confirming(), "s1", "s2")
    bench.ledger.fail("s2", "away")
    bench.queue.bring(body("waits", "s2"), "waits")
    for number in range(3):
        bench.queue.bring(body(f"j{number}"), f"j{number}")
    await turns(3)
    await bench.dispatcher.stop()
    assert sorted(bench.queue.acked) == [2, 3, 4]
    bench.queue.bring(body("late"), "late")
    bench.read("s2")
    await turns()
    assert "late" not in dict(bench.publisher.routed())
    assert "waits" not in dict(bench.publisher.routed())


async def test_a_standby_sets_every_scale_anew_when_it_takes_over() -> None:
    """It heard the other dispatcher's snapshots, and has not counted what that one sent."""
    now = 0.0
    turn = Turn("this", lambda: now)
    assert not turn.standing_by
    turn.heard("this")
    assert not turn.standing_by
    turn.heard("other")
    assert turn.standing_by
    assert turn.take()
    assert not turn.standing_by
    assert not turn.take()
    turn.heard("other")
    now = 100.0
    assert not turn.standing_by
    ledger = Ledger(stale_after=1e9, default_connectors=10)
    ledger.keep({"s1": None})
    counts = Counts(1, 5, 4, 0, 1.0)
    for asked_at in (1.0, 3.0):
        ledger.read("s1", Reading(1, counts=counts), asked_at)
        ledger.ask_depth("s1")
        ledger.depth("s1", 2, asked_at + 1)
    assert ledger.accounts["s1"].load == 3
    ledger.let_go()
    assert ledger.unanchored() == ["s1"]


async def test_those_that_fit_nowhere_do_not_keep_out_the_others() -> None:
    """With all that can be held pinned to one full substation, some go behind those that fit."""
    bench = Bench(confirming(), "s1", "s2", connectors=100)
    bench.now = 10.0
    bench.ledger.fail("s2", "away")
    for number in range(PREFETCH):
        bench.queue.bring(body(f"pinned{number}", "s2"), f"pinned{number}")
    await turns()
    back = bench.publisher.to(topology.REQUESTS)
    assert [each.properties.message_id for each in back] == [f"pinned{n}" for n in range(5)]
    assert [each.body for each in back] == [body(f"pinned{n}", "s2") for n in range(5)]
    assert sorted(bench.queue.acked) == [1, 2, 3, 4, 5]
    bench.queue.bring(body("free"), "free")
    bench.queue.bring(body("pinned0", "s2"), "pinned0")
    await turns()
    assert bench.publisher.routed() == [("free", "s1")]
    bench.read("s2")
    await turns()
    assert {job for job, _ in bench.publisher.routed()} == {
        "free",
        "pinned0",
        *(f"pinned{number}" for number in range(5, PREFETCH)),
    }


@pytest.mark.parametrize("early", [True, False])
async def test_a_request_set_back_is_there_once(early: bool) -> None:  # noqa: FBT001
    """Its copy may come before the confirm or after it: one of the two is kept, and sent once."""
    bench = Bench(FakePublisher(charge_events=Outcome.CONFIRMED), "s1", "s2", connectors=100)
    bench.now = 10.0
    bench.ledger.fail("s2", "away")
    for number in range(PREFETCH):
        bench.queue.bring(body(f"p{number}", "s2"), f"p{number}")
    await turns()
    if early:
        bench.queue.bring(body("p0", "s2"), "p0")
    bench.publisher.answer(topology.REQUESTS)
    await turns()
    assert bench.queue.acked == [1]
    if not early:
        bench.queue.bring(body("p0", "s2"), "p0")
    bench.publisher.answer(topology.REQUESTS, Outcome.REFUSED)  # p1 stays
    bench.read("s2")
    await turns()
    sent = [job for job, _ in bench.publisher.routed()]
    assert sent.count("p0") == 1
    assert sent.count("p1") == 1
