"""Accepted requests whose queue was deleted or purged are charged all the same, and once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grid import topology
from tests.broker import VirtualHost
from tests.end_to_end.emptied import BACK_SECONDS, post, reconciled, without_substations
from tests.faults.brokerside import declare_topology, delete_queue, purge_queue
from tests.system import STANDBY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def _delete(vhost: VirtualHost) -> None:
    delete_queue(vhost, topology.REQUESTS)


def _purge(vhost: VirtualHost) -> None:
    purge_queue(vhost, topology.REQUESTS)


def _ready(vhost: VirtualHost) -> int | None:
    """Return how many requests are ready, as RabbitMQ last counted them."""
    return vhost.queue(topology.REQUESTS).get("messages_ready")


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
    with without_substations(vhost, tmp_path, prefetch) as system:
        jobs = post(system, 100)
        assert len(jobs) == 100
        named = {"Idempotency-Key": "asked-before", "Prefer": "respond-async"}
        status, answer = system.post(None, "/charge", **named)
        assert status == 202
        jobs.add(answer["id"])
        if dispatcher == "starts again":
            system.kill("dispatcher")
            # what it had in hand is in the queue again once RabbitMQ has noticed its end
            system.until(lambda: _ready(vhost) == len(jobs), "all requests are in the queue")
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
        jobs |= post(system, 20)
        status, answer = system.post(None, "/charge", **named)
        assert status == 202
        assert answer["id"] in jobs  # it is the job that was in the queue, and it is charged
        for name in system.substations:
            system.start(name)
        charges = system.wait_completed(jobs, BACK_SECONDS + 10)
        assert time.monotonic() - back < BACK_SECONDS + 10
        assert sum(each["duplicates"] for each in charges) == 0
        was_lost = strike is _delete or prefetch < 100 or dispatcher == "starts again"
        assert (reconciled(system, "dispatcher") > 0) == was_lost


def test_requests_that_only_wait_long_are_not_published_again(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Neither by the dispatcher at work, nor by its standby, nor after a takeover."""
    with without_substations(vhost, tmp_path, prefetch=20) as system:
        system.start(STANDBY)
        system.wait_ready(STANDBY, eligible=())
        jobs = post(system, 100)
        time.sleep(12)
        system.kill("dispatcher")
        time.sleep(12)
        system.start("dispatcher")
        system.wait_ready("dispatcher", eligible=())
        assert reconciled(system, "dispatcher", STANDBY) == 0
        for name in system.substations:
            system.start(name)
        charges = system.wait_completed(jobs)
        assert sum(each["duplicates"] for each in charges) == 0
        assert reconciled(system, "dispatcher", STANDBY) == 0


def test_requests_are_not_published_in_place_of_cancelled_ones_that_were_purged(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """As many healthy requests are in the queue afterwards, and none of them is missing."""
    with without_substations(vhost, tmp_path, prefetch=20) as system:
        in_hand = post(system, 20)
        cancelled = post(system, 40)
        for each in cancelled:
            status, found = system.call("api", "DELETE", f"/charge/{each}")
            assert (status, found["status"]) == (200, "cancelled")
        purge_queue(vhost, topology.REQUESTS)
        later = post(system, 60)
        time.sleep(12)
        assert reconciled(system, "dispatcher") == 0
        for name in system.substations:
            system.start(name)
        charges = system.wait_completed(in_hand | later)
        assert sum(each["duplicates"] for each in charges) == 0
        assert reconciled(system, "dispatcher") == 0
