"""Parked messages can be listed, replayed and discarded, and each job's history shows it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pika import BlockingConnection, URLParameters

from grid import topology
from grid.amqp import Publisher
from grid.messages import ChargeRequest
from grid.parked.text import HEADING
from tests.broker import VirtualHost
from tests.system import QUICK, ROOT, System

pytestmark = pytest.mark.e2e

AT = 1_700_000_000.0
TIMEOUT = 60.0


def tool(vhost: VirtualHost, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the tool as its own user."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "grid.parked", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "AMQP_URL": vhost.url("parked")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def publish(vhost: VirtualHost, exchange: str, key: str, id: str, body: bytes) -> None:
    """Publish a message past the api."""

    async def run() -> None:
        publisher = Publisher("test", [vhost.url("admin")], lambda *_: None)
        task = asyncio.create_task(publisher.run())
        await publisher.confirmed(exchange, key, body, id=id, timeout=TIMEOUT)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


class Seen:
    """What the api and the tool show of jobs."""

    def __init__(self, system: System, vhost: VirtualHost) -> None:
        self._system = system
        self._vhost = vhost

    def job(self, id: str) -> dict[str, Any]:
        """Return a job as the api shows it."""
        found: dict[str, Any] = self._system.get("api", f"/charge/{id}")[1]
        return found

    def wait(self, status: str, *jobs: str) -> None:
        """Wait until jobs have come to a state."""

        def there() -> bool:
            return all(self.job(each).get("status") == status for each in jobs)

        self._system.until(there, f"{jobs} are {status}")

    def says(self, *words: str, of: int, status: int = 0) -> str:
        """Run the tool once so many messages are parked; return its output.

        RabbitMQ may take a moment to requeue what the call before has looked at.
        """
        self._system.until(lambda: self._ready() == of, f"{of} messages are in charge.parked")
        done = tool(self._vhost, *words)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def _ready(self) -> int:
        with closing(BlockingConnection(URLParameters(self._vhost.url("admin")))) as connection:
            found = connection.channel().queue_declare(topology.PARKED, passive=True)
            return int(found.method.message_count)

    def substations(self) -> list[str]:
        """Name the substations that the api knows."""
        found = self._system.get("api", "/substations")[1]
        return [each["id"] for each in found["substations"]]


def test_a_job_for_a_substation_to_come_is_replayed(vhost: VirtualHost, tmp_path: Path) -> None:
    """It is parked, replayed once its substation is there, and completed; its history shows it."""
    with System(vhost, tmp_path, substations=2, environment=QUICK) as system:
        seen = Seen(system, vhost)
        system.write_targets(["substation1"])
        system.until(lambda: seen.substations() == ["substation1"], "the other is taken away")
        early = ChargeRequest("early", AT, eligible_substations=("substation2",)).encode()
        publish(vhost, topology.REQUESTS_EXCHANGE, topology.REQUESTS, "early", early)
        seen.wait("parked", "early")
        assert seen.job("early")["reason"] == "no such substation: substation2"
        assert "no-such-substation" in seen.says("list", of=1)

        system.write_targets(system.substations)
        system.wait_ready()
        assert seen.says("replay", "early", of=1) == "replayed  early\n"
        seen.wait("completed", "early")
        job = seen.job("early")
        assert job["substation"] == "substation2"
        assert "parked" in job["times"]
        assert job["reason"] == (
            "replayed by an operator; it was parked: no such substation: substation2"
        )
        assert "not in charge.parked" in seen.says("show", "early", of=0, status=1)


def test_what_is_no_request_is_given_up_on_record(vhost: VirtualHost, tmp_path: Path) -> None:
    """The dispatcher or a substation rejects it; either way it is parked with a reason on record.

    It is replayed only if forced, and then parked again; at last it is discarded.
    """
    with System(vhost, tmp_path, substations=1, environment=QUICK) as system:
        seen = Seen(system, vhost)
        publish(vhost, topology.REQUESTS_EXCHANGE, topology.REQUESTS, "broken", b"{")
        publish(vhost, topology.SUBSTATIONS_EXCHANGE, "substation1", "astray", b"\x00\x1b[2J")
        seen.wait("parked", "broken", "astray")
        assert seen.job("astray")["reason"].startswith(
            "substation.substation1 had a consumer that rejected it: the body is not JSON"
        )
        lines = {line.split()[0]: line for line in seen.says("list", of=2).splitlines()}
        assert "malformed" in lines["broken"]
        assert "rejected" in lines["astray"]
        assert "substation.substation1" in lines["astray"]
        assert "00 1b 5b 32 4a" in seen.says("show", "astray", of=2)

        refused = seen.says("replay", "--all", "--reason", "malformed", of=2, status=1)
        assert refused.startswith("not replayed  broken: it would be parked again")
        assert seen.says("replay", "broken", "--force", of=2) == "replayed  broken\n"

        assert "--yes" in seen.says("discard", "--all", of=2, status=1)
        done = seen.says("discard", "--all", "--yes", "--why", "a test", of=2)
        assert sorted(done.splitlines()) == ["discarded  astray", "discarded  broken"]
        seen.wait("cancelled", "broken", "astray")
        assert seen.job("astray")["reason"].startswith("discarded by an operator: a test")
        assert seen.says("list", of=0).splitlines() == [HEADING]
