"""Accepted requests whose queue was deleted or purged are charged all the same, and once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from pika import BasicProperties, BlockingConnection, URLParameters

from dispatcher.jobs import COPY_HEADER
from grid import topology
from grid.messages import ChargeRequest
from tests.broker import VirtualHost
from tests.faults.brokerside import declare_topology, delete_queue, evaluate
from tests.system import QUICK, STANDBY, System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

BACK_SECONDS = 30.0  # after its queue is back, a request is in it again


def _post(system: System, count: int) -> set[str]:
    """Send requests; return the jobs of those that were answered 202."""
    answers = [system.post(path="/charge", Prefer="respond-async") for _ in range(count)]
    return {answer["id"] for status, answer in answers if status == 202}


def _reconciled(system: System, *names: str) -> float:
    """Return how many jobs dispatchers have published, or sent, again."""
    pages = [str(system.get(name, "/metrics")[1]) for name in names]
    lines = [line for page in pages for line in page.splitlines()]
    wanted = "dispatcher_reconciled_jobs_total{"
    return sum(float(line.rsplit(maxsplit=1)[1]) for line in lines if line.startswith(wanted))


@contextmanager
def _without_substations(vhost: VirtualHost, folder: Path, prefetch: int) -> Iterator[System]:
    """Run an api and a dispatcher at work, whose substations are not there yet."""
    system = System(vhost, folder, environment={**QUICK, "PREFETCH": str(prefetch)})
    try:
        system.start("api")
        system.start("dispatcher")
        system.wait_ready("api", "dispatcher", eligible=())
        yield system
    finally:
        system.close()


def _delete(vhost: VirtualHost) -> None:
    delete_queue(vhost, topology.REQUESTS)


def _purge(vhost: VirtualHost) -> None:
    path = f"/api/queues/{quote(vhost.name)}/{quote(topology.REQUESTS)}/contents"
    vhost.broker.request("DELETE", path)


@pytest.mark.parametrize("strike", [_delete, _purge], ids=["deleted", "purged"])
@pytest.mark.parametrize("prefetch", [20, 1000], ids=["mostly queued", "in hand"])
@pytest.mark.parametrize("dispatcher", ["goes on", "starts again"])
def test_requests_are_charged_though_their_queue_was_emptied(
    strike: Callable[[VirtualHost], None],
    prefetch: int,
    dispatcher: str,
    vhost: VirtualHost,
    tmp_path: Path,
) -> None:
    """Whether the dispatcher had them in hand or not, and knows of them or has to read the log."""
    with _without_substations(vhost, tmp_path, prefetch) as system:
        jobs = _post(system, 100)
        assert len(jobs) == 100
        if dispatcher == "starts again":
            system.kill("dispatcher")
        strike(vhost)
        if strike is _delete:
            system.until(
                lambda: topology.REQUESTS in str(system.get("api", "/readyz")[1]),
                "the api says which queue is missing",
            )
            assert system.post(path="/charge", Prefer="respond-async")[0] == 503
            declare_topology(vhost)
        if dispatcher == "starts again":
            system.start("dispatcher")
        back = time.monotonic()
        system.until(lambda: system.get("api", "/readyz")[0] == 200, "the api is ready")
        jobs |= _post(system, 20)
        for name in system.substations:
            system.start(name)
        charges = system.wait_completed(jobs, BACK_SECONDS + 10)
        assert time.monotonic() - back < BACK_SECONDS + 10
        assert sum(each["duplicates"] for each in charges) == 0
        was_lost = strike is _delete or prefetch < 100 or dispatcher == "starts again"
        assert (_reconciled(system, "dispatcher") > 0) == was_lost


def test_requests_that_only_wait_long_are_not_published_again(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Neither by the dispatcher at work, nor by its standby, nor after a takeover."""
    with _without_substations(vhost, tmp_path, prefetch=20) as system:
        system.start(STANDBY)
        system.wait_ready(STANDBY, eligible=())
        jobs = _post(system, 100)
        time.sleep(12)
        system.kill("dispatcher")
        time.sleep(12)
        system.start("dispatcher")
        system.wait_ready("dispatcher", eligible=())
        assert _reconciled(system, "dispatcher", STANDBY) == 0
        for name in system.substations:
            system.start(name)
        charges = system.wait_completed(jobs)
        assert sum(each["duplicates"] for each in charges) == 0
        assert _reconciled(system, "dispatcher", STANDBY) == 0


def test_jobs_of_a_deleted_substation_queue_are_charged_by_another_dispatcher(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Who had sent them is gone, and so is their queue: only the event log knows of them."""
    with System(vhost, tmp_path, substations=1, environment=QUICK) as system:
        done = _post(system, 3)
        system.wait_completed(done)
        system.tell("substation1", signal.SIGSTOP)
        jobs = _post(system, 10)
        system.until(
            lambda: [each["status"] for each in system.all_charges()].count("assigned") == 10,
            "all jobs are assigned to the substation that is held",
        )
        system.kill("dispatcher")
        system.kill("substation1")
        delete_queue(vhost, topology.substation_queue("substation1").name)
        system.start("dispatcher")
        system.start("substation1")
        charges = system.wait_completed(jobs, BACK_SECONDS + 10)
        assert sum(each["duplicates"] for each in charges) == 0
        assert _reconciled(system, "dispatcher") == len(jobs)


def test_job_that_was_sent_ahead_is_left_to_its_substation(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """It waits there for a connector: neither in its queue nor begun, for as long as a session."""
    hurried = {"CHARGE_SECONDS_MIN": "12", "CHARGE_SECONDS_MAX": "12", "CONNECTORS": "1"}
    with System(vhost, tmp_path, substations=2, environment=hurried) as system:
        jobs = _post(system, 8)
        system.until(
            lambda: [each["status"] for each in system.all_charges()].count("assigned") > 0,
            "a job is sent ahead",
        )
        system.kill("dispatcher")
        system.start("dispatcher")
        charges = system.wait_completed(jobs, 90)
        assert sum(each["duplicates"] for each in charges) == 0
        assert _reconciled(system, "dispatcher") == 0


def test_queue_without_a_leader_is_not_taken_for_empty(vhost: VirtualHost, tmp_path: Path) -> None:
    """RabbitMQ tells of no messages then: 100 requests that wait are not published again."""
    with _without_substations(vhost, tmp_path, prefetch=20) as system:
        jobs = _post(system, 100)
        leader = f"'{vhost.name}_{topology.REQUESTS}'"
        evaluate(vhost.broker, f"sys:suspend({leader}).")
        time.sleep(15)
        evaluate(vhost.broker, f"sys:resume({leader}).")
        assert _reconciled(system, "dispatcher") == 0
        for name in system.substations:
            system.start(name)
        charges = system.wait_completed(jobs)
        assert sum(each["duplicates"] for each in charges) == 0
        assert _reconciled(system, "dispatcher") == 0


def test_request_published_once_more_is_not_charged_after_its_job_has_ended(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """The dispatcher that gets the copy has started since, and does not remember the job itself."""
    with System(vhost, tmp_path, environment=QUICK) as system:
        jobs = _post(system, 30)
        charges = system.wait_completed(jobs)
        time.sleep(8)  # what was written in the last seconds is always read at a start
        _post(system, 5)
        system.kill("dispatcher")
        with closing(BlockingConnection(URLParameters(vhost.url()))) as connection:
            channel = connection.channel()
            for each in charges:
                request = ChargeRequest(each["id"], time.time() - 10)
                headers = {COPY_HEADER: True}
                properties = BasicProperties(message_id=each["id"], headers=headers)
                channel.basic_publish(
                    topology.REQUESTS_EXCHANGE, topology.REQUESTS, request.encode(), properties
                )
        system.start("dispatcher")
        system.wait_ready("dispatcher")
        more = _post(system, 5)
        system.wait_completed(more)
        system.until(
            lambda: vhost.queue(topology.REQUESTS).get("messages") == 0, "no copy waits", 60
        )
        charges = system.wait_completed(jobs)
        assert sum(each["duplicates"] for each in charges) == 0
