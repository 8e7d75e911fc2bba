"""The queues' arguments, which must not change by accident: no declared queue can be changed.

Each is checked against RabbitMQ's rules as its guides on quorum queues, streams and consumers
state them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from grid import topology
from grid.amqp import Declarer, declare_topology
from grid.errors import BrokerUnavailable
from grid.topology import Queue, substation_queue
from tests.broker import VirtualHost
from tests.grid.links import Seen, eventually, running

KEPT = [topology.REQUESTS_QUEUE, substation_queue("substation1")]  # queues that hold jobs
ASIDE = [topology.PARKED_QUEUE, topology.DEAD_QUEUE]  # queues of parked and dead-lettered messages
DEFAULT_OF_RABBITMQ_4 = 20  # deliveries, after which it drops a message


@pytest.mark.parametrize("queue", [*KEPT, *ASIDE], ids=lambda each: each.name)
def test_topology_queues_with_jobs_are_quorum_queues(queue: Queue) -> None:
    """Only a quorum queue confirms once a majority of nodes has the message on disk."""
    assert queue.arguments["x-queue-type"] == "quorum"


@pytest.mark.parametrize("queue", KEPT, ids=lambda each: each.name)
def test_topology_full_queues_reject_publishes(queue: Queue) -> None:
    """A bound without ``reject-publish`` would drop the oldest jobs that were already confirmed."""
    assert queue.arguments["x-overflow"] == "reject-publish"
    assert queue.arguments["x-max-length"] >= 100_000


@pytest.mark.parametrize(
    ("queue", "target"),
    [
        *((each, topology.DEAD_QUEUE) for each in KEPT),
        (topology.DEAD_QUEUE, topology.PARKED_QUEUE),
    ],
    ids=lambda each: each.name,
)
def test_topology_dead_letters_at_least_once(queue: Queue, target: Queue) -> None:
    """At-least-once dead-lettering needs a target, ``reject-publish`` and a quorum queue."""
    assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
    assert queue.arguments["x-overflow"] == "reject-publish"
    goes_to = (
        queue.arguments["x-dead-letter-exchange"],
        queue.arguments["x-dead-letter-routing-key"],
    )
    assert goes_to == (target.exchange, target.key)


def test_topology_dead_and_parked_messages_have_separate_queues() -> None:
    """Only what comes with its reason goes to charge.parked."""
    dead, parked = topology.DEAD_QUEUE, topology.PARKED_QUEUE
    assert dead.exchange == parked.exchange
    assert dead.key != parked.key


@pytest.mark.parametrize("queue", [*KEPT, *ASIDE], ids=lambda each: each.name)
def test_topology_delivery_limit_is_above_rabbitmqs_default(queue: Queue) -> None:
    """A limit is set, above RabbitMQ 4's default, at which it drops what it cannot dead-letter."""
    assert queue.arguments["x-delivery-limit"] > DEFAULT_OF_RABBITMQ_4


def test_topology_parked_queue_drops_nothing() -> None:
    """What is parked is dropped by no limit and dead-lettered nowhere; a full queue refuses."""
    arguments = topology.PARKED_QUEUE.arguments
    assert "x-dead-letter-exchange" not in arguments
    assert arguments["x-overflow"] == "reject-publish"
    assert arguments["x-max-length"] >= topology.REQUESTS_MAX_LENGTH


def test_topology_requests_queue_has_a_single_active_consumer() -> None:
    """Two load trackers would each count half: a standby takes over once the active one is gone."""
    assert topology.REQUESTS_QUEUE.arguments["x-single-active-consumer"] is True
    assert "x-single-active-consumer" not in substation_queue("substation1").arguments


def test_topology_event_log_is_a_bounded_stream() -> None:
    """It is read again from its start, and drops whole segments, several of which must fit."""
    arguments = topology.EVENTS_STREAM.arguments
    assert arguments["x-queue-type"] == "stream"
    assert arguments["x-max-age"] == "24h"
    assert arguments["x-max-length-bytes"] >= 10 * arguments["x-stream-max-segment-size-bytes"]
    unknown_to_streams = {"x-max-length", "x-overflow", "x-delivery-limit", "x-message-ttl"}
    assert not unknown_to_streams & arguments.keys()


def test_topology_controls_stream_has_no_age_limit() -> None:
    """A substation drained a year ago still is; the bound drops what newer messages repeat."""
    arguments = topology.CONTROLS_STREAM.arguments
    assert arguments["x-queue-type"] == "stream"
    assert "x-max-age" not in arguments
    assert arguments["x-max-length-bytes"] >= 10 * arguments["x-stream-max-segment-size-bytes"]


def test_topology_cancellations_are_kept_as_long_as_the_event_log() -> None:
    """A job of which nobody knows any more need not be cancelled."""
    arguments = topology.CANCELLATIONS_STREAM.arguments
    assert arguments["x-queue-type"] == "stream"
    assert arguments["x-max-age"] == topology.EVENTS_STREAM.arguments["x-max-age"]
    assert arguments["x-max-length-bytes"] >= 10 * arguments["x-stream-max-segment-size-bytes"]


def test_topology_names_are_the_public_ones() -> None:
    """Operators, dashboards and permissions name these."""
    assert {queue.name for queue in topology.QUEUES} == {
        "charge.requests",
        "charge.parked",
        "charge.dead",
        "charge.events",
        "charge.controls",
        "charge.cancellations",
    }
    queue = substation_queue("substation1")
    assert topology.substation_of(queue.name) == "substation1"
    assert topology.substation_of("charge.requests") is None
    assert (queue.name, queue.exchange, queue.key) == (
        "substation.substation1",
        "charge.substations",
        "substation1",
    )


@pytest.mark.parametrize("queue", [*topology.QUEUES, substation_queue("a")], ids=lambda q: q.name)
def test_topology_binds_every_queue_to_a_named_exchange(queue: Queue) -> None:
    """Every queue is bound to an exchange that is declared too."""
    assert queue.exchange in topology.EXCHANGES


@pytest.mark.integration
async def test_declaring_again_agrees_with_the_definitions(vhost: VirtualHost) -> None:
    """Definitions and services declare the queues alike; otherwise RabbitMQ answers 406."""
    await declare_topology([vhost.url()], Seen())
    seen = Seen()
    async with running(Declarer("dispatcher-queues", [vhost.url("dispatcher")], seen)) as declarer:
        for _ in range(2):
            assert (await declarer.queue(substation_queue("substation1"))).ready == 0
    assert seen.reasons() == ["connected"]


@pytest.mark.integration
async def test_declare_command_sets_up_an_empty_broker(vhost: VirtualHost) -> None:
    """``python -m grid declare`` makes what a broker without the definitions lacks."""
    with vhost.broker.vhost(topology=False) as empty:
        await declare_topology([empty.url()], Seen())
        assert await asyncio.to_thread(shape, empty) == await asyncio.to_thread(shape, vhost)


@pytest.mark.integration
async def test_declare_command_names_a_queue_declared_otherwise(vhost: VirtualHost) -> None:
    """A queue declared otherwise is an error that names it; the link comes back for the others."""
    other = Queue(topology.REQUESTS, topology.REQUESTS_EXCHANGE, topology.REQUESTS, {})
    seen = Seen()
    async with running(Declarer("d", [vhost.url()], seen)) as declarer:
        with pytest.raises(BrokerUnavailable, match=r"charge\.requests: .*PRECONDITION_FAILED"):
            await declarer.queue(other)
        await eventually(lambda: seen.ups() == [True, False, True], "the link is back")
        assert (await declarer.queue(topology.REQUESTS_QUEUE)).ready == 0


@pytest.mark.integration
async def test_declare_command_gives_up_without_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends with the reason if RabbitMQ does not answer."""
    monkeypatch.setattr("grid.amqp.declarer.CONNECT_SECONDS", 0.2)
    with pytest.raises(BrokerUnavailable, match="gave no connection"):
        await declare_topology(["amqp://127.0.0.1:1/"], Seen())


def shape(vhost: VirtualHost) -> dict[str, Any]:
    """Return the queues' arguments and the bindings of a virtual host."""
    found = vhost.broker.request("GET", f"/api/definitions/{vhost.name}")
    bindings = [(b["source"], b["destination"], b["routing_key"]) for b in found["bindings"]]
    return {
        "queues": {each["name"]: each["arguments"] for each in found["queues"]},
        "exchanges": {(each["name"], each["type"], each["durable"]) for each in found["exchanges"]},
        "bindings": sorted(bindings),
    }
