"""Jobs that seem to be nowhere: where they really are lost, and where they are not."""

from __future__ import annotations

import re
import signal
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from pika import BasicProperties, BlockingConnection, URLParameters

from dispatcher.jobs import COPY_HEADER
from grid import events, provenance, topology
from grid.events import Event, State
from grid.messages import ChargeRequest
from tests.broker import VirtualHost
from tests.end_to_end.emptied import BACK_SECONDS, post, reconciled, without_substations
from tests.faults.brokerside import delete_queue, evaluate, purge_queue
from tests.system import QUICK, System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_jobs_of_a_deleted_substation_queue_are_charged_by_another_dispatcher(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Who had sent them is gone, and so is their queue: only the event log knows of them."""
    with System(vhost, tmp_path, substations=1, environment=QUICK) as system:
        done = post(system, 3)
        system.wait_completed(done)
        system.tell("substation1", signal.SIGSTOP)
        jobs = post(system, 10)
        system.until(
            lambda: [each["status"] for each in system.all_charges()].count("assigned") == 10,
            "all jobs are assigned to the substation that is held",
        )
        system.until(
            lambda: vhost.queue(topology.REQUESTS).get("messages") == 0,
            "RabbitMQ delivers none of the requests again",
        )
        system.kill("dispatcher")
        system.kill("substation1")
        delete_queue(vhost, topology.substation_queue("substation1").name)
        system.start("dispatcher")
        system.start("substation1")
        charges = system.wait_completed(jobs, BACK_SECONDS + 10)
        assert sum(each["duplicates"] for each in charges) == 0
        assert reconciled(system, "dispatcher") == len(jobs)


def test_job_that_was_sent_ahead_is_left_to_its_substation(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """It waits there for a connector: neither in its queue nor begun, for as long as a session."""
    hurried = {"CHARGE_SECONDS_MIN": "12", "CHARGE_SECONDS_MAX": "12", "CONNECTORS": "1"}
    with System(vhost, tmp_path, substations=2, environment=hurried) as system:
        jobs = post(system, 8)
        system.until(
            lambda: [each["status"] for each in system.all_charges()].count("assigned") > 0,
            "a job is sent ahead",
        )
        system.kill("dispatcher")
        system.start("dispatcher")
        charges = system.wait_completed(jobs, 90)
        assert sum(each["duplicates"] for each in charges) == 0
        assert reconciled(system, "dispatcher") == 0


def test_job_that_never_came_to_a_busy_substation_is_charged(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Its dispatcher was killed between the decision and the job, and its request was purged."""
    busy = {"CHARGE_SECONDS_MIN": "1", "CHARGE_SECONDS_MAX": "1", "CONNECTORS": "2"}
    with System(vhost, tmp_path, substations=1, environment=busy) as system:
        system.kill("dispatcher")
        [lost] = post(system, 1)
        purge_queue(vhost, topology.REQUESTS)
        decision = Event(State.ASSIGNED, time.time(), lost, "substation1", 1)
        with closing(BlockingConnection(URLParameters(vhost.url()))) as connection:
            connection.channel().basic_publish(
                topology.EVENTS_EXCHANGE, provenance.DISPATCHER, events.encode([decision])
            )
        system.start("dispatcher")
        others = post(system, 120)
        began = time.monotonic()
        system.wait_completed({lost}, BACK_SECONDS + 10)
        assert time.monotonic() - began < BACK_SECONDS + 10
        waiting = [each for each in system.all_charges() if each["status"] == "queued"]
        assert waiting, "the substation had nothing to do any more"
        charges = system.wait_completed({lost, *others}, 120)
        assert sum(each["duplicates"] for each in charges) == 0


def test_queue_without_a_leader_is_not_taken_for_empty(vhost: VirtualHost, tmp_path: Path) -> None:
    """RabbitMQ tells of no messages then: 100 requests that wait are not published again."""
    with without_substations(vhost, tmp_path, prefetch=20) as system:
        jobs = post(system, 100)
        leader = f"'{vhost.name}_{topology.REQUESTS}'"
        evaluate(vhost.broker, f"sys:suspend({leader}).")
        time.sleep(15)
        evaluate(vhost.broker, f"sys:resume({leader}).")
        assert reconciled(system, "dispatcher") == 0
        for name in system.substations:
            system.start(name)
        charges = system.wait_completed(jobs)
        assert sum(each["duplicates"] for each in charges) == 0
        assert reconciled(system, "dispatcher") == 0


def copies_seen(system: System) -> float:
    """Return how many requests the dispatcher has seen that it had had before, or another one.

    RabbitMQ may have given a copy to the one that was killed: then it comes as delivered again.
    """
    _, page = system.get("dispatcher", "/metrics")
    counted = r"^dispatcher_(?:duplicate_requests|redelivered)_total (\S+)$"
    return sum(map(float, re.findall(counted, str(page), re.MULTILINE)))


def counted(system: System) -> str:
    """Return what the dispatcher counts."""
    lines = str(system.get("dispatcher", "/metrics")[1]).splitlines()
    return "\n".join(line for line in lines if line.startswith("dispatcher_"))


def test_request_published_once_more_is_not_charged_after_its_job_has_ended(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """The dispatcher that gets the copy has started since, and does not remember the job itself."""
    with System(vhost, tmp_path, environment=QUICK) as system:
        jobs = post(system, 30)
        charges = system.wait_completed(jobs)
        time.sleep(8)  # what was written in the last seconds is always read at a start
        post(system, 5)
        system.kill("dispatcher")
        with closing(BlockingConnection(URLParameters(vhost.url()))) as connection:
            channel = connection.channel()
            channel.confirm_delivery()  # else one that RabbitMQ did not take is not known
            for each in charges:
                request = ChargeRequest(each["id"], time.time() - 10)
                headers = {COPY_HEADER: True}
                properties = BasicProperties(message_id=each["id"], headers=headers)
                channel.basic_publish(
                    topology.REQUESTS_EXCHANGE, topology.REQUESTS, request.encode(), properties
                )
        system.start("dispatcher")
        system.wait_ready("dispatcher")
        more = post(system, 5)
        system.wait_completed(more)
        with suppress(AssertionError):
            system.until(lambda: copies_seen(system) >= len(charges), "all copies were seen", 60)
        assert copies_seen(system) >= len(charges), (
            f"{counted(system)}\n{vhost.queue(topology.REQUESTS)}"
        )
        system.until(
            lambda: vhost.queue(topology.REQUESTS).get("messages") == 0, "no copy waits", 60
        )
        charges = system.wait_completed(jobs)
        assert sum(each["duplicates"] for each in charges) == 0
