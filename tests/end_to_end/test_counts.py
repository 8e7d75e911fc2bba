"""What a request costs, as far as that can be counted exactly; its times are for `make bench`.

Other work on the machine makes most counts smaller: several things are then done at once. What a
service does by its clock becomes more a request, and is allowed by the second.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from bench.chains import SETTINGS
from bench.load import CHARGE, open_loop
from deploy.local.ports import DIRECTLY
from tests.broker import Broker, VirtualHost
from tests.end_to_end import counted
from tests.end_to_end.counted import Calls
from tests.system import System

pytestmark = pytest.mark.e2e

ALONE: Final = 20  # requests of which each has the system to itself
RATE: Final = 50.0  # a second
SECONDS: Final = 3.0
IDLE_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 0.7  # without a message: none is on its way
CONNECTIONS: Final = 4  # of clients: to open one takes more than a request

PUBLISHED: Final = 6  # the request, its job, and four events
QUORUM: Final = 2  # deliveries: the request and the job
EVENTS: Final = 4  # queued, assigned, charging, completed
READERS: Final = 2  # of the event log: the api and the dispatcher
SNAPSHOT_SECONDS: Final = 1.0  # between two that a dispatcher writes, at least


class Allowed(NamedTuple):
    """What services may ask of the kernel for each request, and each second by their clocks."""

    a_request: Calls
    a_second: Calls

    def after(self, requests: int, seconds: float) -> Calls:
        """Return what is allowed after so many requests in so many seconds."""
        pairs = zip(self.a_request, self.a_second, strict=True)
        return Calls(*(requests * request + seconds * second for request, second in pairs))


# A turn of the loop that asks the kernel is one that waits, or begins a millisecond after the last
# such (``grid.polling``). The api receives a request, 2 confirms and 4 events, and sends a request,
# an answer and an event. The dispatcher receives a request, 2 confirms and 4 events, and sends its
# decision with the job, and acknowledgements. A substation receives a job and 2 confirms, has 2
# timers, and sends 2 events and an acknowledgement. By its clock a dispatcher reads pages, looks at
# queues, renews leases. A page that took too long on a busy machine is read on a new connection,
# which takes some others.
ALLOWED: Final = {
    "api": Allowed(Calls(7.5, 3.5, 7.2, 0.5), Calls(40, 8, 8, 20)),
    "dispatcher": Allowed(Calls(6.5, 2.7, 7, 0), Calls(110, 35, 35, 60)),
    "substations": Allowed(Calls(5.5, 3.3, 3.3, 0), Calls(80, 15, 15, 60)),
}


class Messages(NamedTuple):
    """Messages since RabbitMQ has started: its own counters, which are of the moment."""

    published: int
    delivered: int  # from quorum queues
    read: int  # from streams, each by each reader
    acknowledged: int  # of those from quorum queues

    @classmethod
    def at(cls, broker: Broker) -> Messages:
        """Return those of a node."""
        with DIRECTLY.open(f"{broker.prometheus_url}/metrics", timeout=30) as answer:
            page = answer.read().decode()

        def count(name: str, queues: str = "") -> int:
            labels = rf'protocol="amqp091"{queues and f",queue_type=.rabbit_{queues}_queue."}'
            line = rf"^rabbitmq_global_messages_{name}_total{{{labels}}} (\d+)$"
            found = re.search(line, page, re.MULTILINE)
            assert found is not None, f"RabbitMQ does not show {name} {queues}"
            return int(found[1])

        return cls(
            count("received"),
            count("delivered", "quorum"),
            count("delivered", "stream"),
            count("acknowledged", "quorum"),
        )

    def since(self, before: Messages) -> Messages:
        """Return how many more these are."""
        return Messages(*(now - then for now, then in zip(self, before, strict=True)))


@contextmanager
def counting(vhost: VirtualHost, folder: Path) -> Iterator[System]:
    """Run the system, each service of which counts what it asks of the kernel."""
    environment = {**SETTINGS, "RATE_LIMIT": "1000000"}  # one client sends everything
    prefix = sys.executable, "-m", counted.__name__, str(folder)
    with System(vhost, folder, environment=environment, prefix=prefix) as system:
        yield system


def calls(system: System) -> dict[str, Calls]:
    """Return what each kind of service has asked of the kernel so far."""
    found = {name: counted.read(system.folder, each.pid) for name, each in system.processes.items()}
    together = zip(*(found.pop(name) for name in system.substations), strict=True)
    return {**found, "substations": Calls(*map(sum, together))}


def send(system: System, rate: float, seconds: float) -> int:
    """Send requests at a rate, all of which must be accepted; return how many."""
    port = system.ports["api"]
    answers = asyncio.run(open_loop(port, CHARGE, rate, seconds, CONNECTIONS))
    assert all(each.accepted for each in answers)
    return len(answers)


def wait_done(system: System, broker: Broker, before: Messages, requests: int) -> None:
    """Wait until so many requests and their jobs are acknowledged."""

    def done() -> bool:
        return Messages.at(broker).since(before).acknowledged >= QUORUM * requests

    system.until(done, f"{requests} requests are done")


def warm_up(system: System, broker: Broker) -> Messages:
    """Send the first requests, over which more is written; return the messages after all that."""
    before = Messages.at(broker)
    wait_done(system, broker, before, send(system, RATE, 0.2))
    seen = [before]

    def is_quiet() -> bool:
        time.sleep(QUIET_SECONDS)
        seen.append(Messages.at(broker))
        return seen[-1] == seen[-2]

    system.until(is_quiet, "nothing is on its way")
    return seen[-1]


def test_request_is_six_messages_and_each_event_is_read_by_two(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Counted by RabbitMQ, one request after the other: so no message carries events of two.

    Beside them, the dispatcher writes a snapshot of the substations each second.
    """
    with counting(vhost, tmp_path) as system:
        before, began = warm_up(system, vhost.broker), time.monotonic()
        for number in range(1, ALONE + 1):
            send(system, 1, 1)
            wait_done(system, vhost.broker, before, number)
        seconds = time.monotonic() - began

        found = before

        def all_read() -> bool:
            nonlocal found
            found = Messages.at(vhost.broker).since(before)
            return found.read >= READERS * (found.published - QUORUM * ALONE)

        system.until(all_read, f"each event is read by {READERS}")
    snapshots = found.published - PUBLISHED * ALONE
    assert 0 <= snapshots <= seconds / SNAPSHOT_SECONDS + 2, found
    assert found.delivered == QUORUM * ALONE, found
    assert found.read == READERS * (EVENTS * ALONE + snapshots), found


def test_no_service_asks_more_of_the_kernel(vhost: VirtualHost, tmp_path: Path) -> None:
    """Counted in each service, at 50 requests/s: turns of its loop, and calls of its sockets.

    Each is one system call. Others are not counted (files, threads, random numbers, `getpid` of
    Python 3.11): `make bench ARGS=counts` has them all, where there is `strace`.
    """
    with counting(vhost, tmp_path) as system:
        before = warm_up(system, vhost.broker)

        def rest() -> int:
            time.sleep(IDLE_SECONDS)
            return 0

        def work() -> int:
            requests = send(system, RATE, SECONDS)
            wait_done(system, vhost.broker, before, requests)
            return requests

        check(system, rest)
        check(system, work)


def check(system: System, work: Callable[[], int]) -> None:
    """Check what work asks of the kernel, which returns how many requests it sends."""
    before, began = calls(system), time.monotonic()
    requests = work()
    after, seconds = calls(system), time.monotonic() - began
    for name, now in after.items():
        found, allowed = now.since(before[name]), ALLOWED[name].after(requests, seconds)
        assert found.turns > 0, f"nothing is counted in {name}: which loop does it use?"
        more = [each for each in Calls._fields if getattr(found, each) > getattr(allowed, each)]
        assert not more, (
            f"{name}, {requests} requests in {seconds:.1f} s: {found}, and allowed is {allowed}"
        )
