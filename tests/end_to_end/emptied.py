"""What the tests of queues that lost their requests have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.broker import VirtualHost
from tests.system import QUICK, System

BACK_SECONDS: Final = 30.0  # after its queue is back, a request is in it again


def post(system: System, count: int) -> set[str]:
    """Send requests; return the jobs of those that were answered 202."""
    answers = [system.post(path="/charge", Prefer="respond-async") for _ in range(count)]
    return {answer["id"] for status, answer in answers if status == 202}


def reconciled(system: System, *names: str) -> float:
    """Return how many jobs dispatchers have published, or sent, again."""
    pages = [str(system.get(name, "/metrics")[1]) for name in names]
    lines = [line for page in pages for line in page.splitlines()]
    wanted = "dispatcher_reconciled_jobs_total{"
    return sum(float(line.rsplit(maxsplit=1)[1]) for line in lines if line.startswith(wanted))


@contextmanager
def without_substations(vhost: VirtualHost, folder: Path, prefetch: int) -> Iterator[System]:
    """Run an api and a dispatcher at work, whose substations are not there yet."""
    system = System(vhost, folder, environment={**QUICK, "PREFETCH": str(prefetch)})
    try:
        system.start("api")
        system.start("dispatcher")
        system.wait_ready("api", "dispatcher", eligible=())
        yield system
    finally:
        system.close()
