from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import pytest

from deploy.local.ports import HOST
from scheduling.explain import BLIND
from tests.broker import VirtualHost
from tests.ports import free_ports
from tests.system import QUICK, READY_SECONDS, System

pytestmark = pytest.mark.e2e

HALF_A_SECOND = {"CHARGE_SECONDS_MIN": "0.3", "CHARGE_SECONDS_MAX": "0.6"}


@contextmanager
def steady_load(system: System, threads: int = 4) -> Iterator[set[str]]:
    """Send requests for as long as the context lasts; yield the ids of those answered 202."""
    accepted: set[str] = set()
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            status, answer = system.post(path="/charge", Prefer="respond-async")
            if status == 202:
                accepted.add(answer["id"])
            stop.wait(0.02 if status == 202 else 0.2)

    workers = [threading.Thread(target=send) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield accepted
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def test_rabbitmq_killed_under_load_loses_nothing(vhost: VirtualHost, tmp_path: Path) -> None:
    """Every request answered 202 is completed, once, though RabbitMQ was killed in the middle."""
    with System(vhost, tmp_path, environment=HALF_A_SECOND) as system:
        with steady_load(system) as accepted:
            system.until(lambda: len(accepted) > 100, "100 requests are accepted")
            vhost.broker.kill()
            during = len(accepted)
            vhost.broker.start()
            system.until(lambda: len(accepted) > during + 100, "100 more are accepted")
        jobs = system.wait_completed(set(accepted))
        assert Counter(job["duplicates"] for job in jobs) == {0: len(accepted)}


def test_a_substation_killed_while_charging(vhost: VirtualHost, tmp_path: Path) -> None:
    """The sessions of a substation that is killed and comes back are charged after all."""
    with System(vhost, tmp_path, environment=HALF_A_SECOND) as system:
        with steady_load(system) as accepted:
            system.until(lambda: len(accepted) > 100, "100 requests are accepted")
            system.kill("substation2")
            during = len(accepted)
            system.until(lambda: len(accepted) > during + 50, "requests go elsewhere meanwhile")
            system.start("substation2")
            system.wait_ready("substation2")
        system.wait_completed(set(accepted))


def test_a_dispatcher_killed_under_load(vhost: VirtualHost, tmp_path: Path) -> None:
    """A dispatcher that is killed and started again loses no request."""
    with System(vhost, tmp_path, environment=HALF_A_SECOND) as system:
        with steady_load(system) as accepted:
            system.until(lambda: len(accepted) > 100, "100 requests are accepted")
            system.kill("dispatcher")
            system.start("dispatcher")
            system.wait_ready("dispatcher")
        system.wait_completed(set(accepted))


def test_a_substation_told_to_end(vhost: VirtualHost, tmp_path: Path) -> None:
    """On SIGTERM a substation finishes its sessions, requeues the rest, and ends cleanly."""
    special = {
        "substation1": {"CHARGE_SECONDS_MIN": "1", "CHARGE_SECONDS_MAX": "1"},
        "substation2": {"CHARGE_SECONDS_MIN": "60", "CHARGE_SECONDS_MAX": "60"},
    }
    short = {"GRACE_SECONDS": "2"}
    with System(vhost, tmp_path, substations=2, environment=short, special=special) as system:
        ids = {system.post()[1]["id"] for _ in range(6)}
        charging = {job["id"] for job in system.all_charges() if job["substation"] == "substation1"}
        system.until(
            lambda: all(job["status"] == "charging" for job in system.all_charges()), "all charge"
        )
        began = time.monotonic()
        assert system.end("substation1") == 0
        assert system.end("substation2") == 0
        assert time.monotonic() - began < 10
        done = {job["id"] for job in system.all_charges() if job["status"] == "completed"}
        assert done == charging
        system.change("substation2", QUICK)
        system.start("substation2")
        jobs = system.wait_completed(ids)
        assert Counter(job["duplicates"] for job in jobs) == {0: len(ids)}


def test_an_api_told_to_end_answers_those_who_wait(vhost: VirtualHost, tmp_path: Path) -> None:
    """At once, with the job as it is; its connections would be cut 2 s later."""
    with System(vhost, tmp_path, substations=1) as system:
        assert system.end("dispatcher") == 0
        _, job = system.post(Prefer="respond-async")
        address = (HOST, system.ports["api"])
        with socket.create_connection(address, timeout=READY_SECONDS) as waiting:
            path = f"/charge/{job['id']}?wait=30"
            waiting.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert system.get("api", "/healthz")[0] == 200  # which comes after it
            began = time.monotonic()
            system.tell("api", signal.SIGTERM)
            answer = HTTPResponse(waiting)
            answer.begin()
            assert (answer.status, json.loads(answer.read())["status"]) == (200, "queued")
            assert time.monotonic() - began < 1.5
        assert system.ended("api") == 0


def test_nothing_goes_where_the_load_is_unknown(vhost: VirtualHost, tmp_path: Path) -> None:
    """While a substation's metrics page is out of reach, it gets no job; afterwards it does."""
    # a busy machine delays the others' pages too, and with none at all any substation is chosen
    patient = {"SCRAPE_PERIOD_SECONDS": "1", "SCRAPE_TIMEOUT_SECONDS": "1"}
    environment = {**QUICK, **patient, "STALE_AFTER_SECONDS": "6"}
    with System(vhost, tmp_path, environment=environment) as system:
        (nobody,) = free_ports(1)
        system.write_targets(system.substations, {"substation2": nobody})
        # by its new address: while it started, its page could not be read either, and what the api
        # shows is a second old
        system.until(
            lambda: (
                f"cannot be read: Cannot connect to host {HOST}:{nobody} "
                in str(_reason(system, "substation2"))
            ),
            "it is seen to be away",
        )
        decided = [system.post()[1]["details"] for _ in range(20)]
        # where a busy machine has delayed every page, the decision says so
        known = [each for each in decided if BLIND not in each["reason"]]
        assert {each["routed_to"] for each in known} == {"substation1", "substation3"}, decided
        system.write_targets(system.substations)
        system.until(
            lambda: system.post()[1]["details"]["routed_to"] == "substation2", "it gets jobs again"
        )


def test_substations_stay_unknown_until_the_next_dispatcher_describes_them(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """A dispatcher that starts writes to the event log before it knows any of them."""

    def shown() -> tuple[str, set[str]]:
        _, page = system.get("api", "/substations")
        return page["as_of"], {each["status"] for each in page["substations"]}

    with System(vhost, tmp_path, environment=QUICK) as system:
        system.until(lambda: shown()[1] == {"available"}, "the substations are known")
        assert system.end("dispatcher") == 0
        system.until(lambda: shown()[1] == {"unknown"}, "they are not known any more", 2.0)
        last, _ = shown()
        system.start("dispatcher")
        while (found := shown())[0] == last:
            assert found[1] == {"unknown"}
            time.sleep(0.01)
        system.until(lambda: shown()[1] == {"available"}, "they are known again")


def test_without_rabbitmq_the_api_says_so(vhost: VirtualHost, tmp_path: Path) -> None:
    """While RabbitMQ is away, a request is answered 503 and the api is alive, but not ready."""
    with System(vhost, tmp_path, environment=QUICK) as system:
        vhost.broker.kill()
        system.until(lambda: system.get("api", "/readyz")[0] == 503, "the api is not ready")
        status, problem = system.post()
        assert status == 503
        assert "RabbitMQ is away" in problem["detail"]
        assert system.get("api", "/healthz")[0] == 200
        vhost.broker.start()
        system.wait_ready()
        assert system.post()[0] == 202


def _reason(system: System, substation: str) -> str | None:
    _, page = system.get("api", "/substations")
    found: dict[str, str | None] = {each["id"]: each["reason"] for each in page["substations"]}
    return found.get(substation)
