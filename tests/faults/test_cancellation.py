"""Jobs are cancelled at any moment, under load and past restarts: each ends once, as was told."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from math import nan
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

import aiohttp
import pytest

from deploy.local.ports import HOST
from grid import events, topology
from grid.amqp import StreamReader
from grid.events import ENDED, Event, State
from tests.broker import VirtualHost
from tests.faults.accounts import Histories
from tests.faults.faults import CANCELLATION_FAULT
from tests.faults.form import Form
from tests.faults.report import Row
from tests.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1_200)]

JOBS: Final = 400
MANY: Final = 10_000  # in the long form
RATE: Final = 60.0  # requests a second: more than are charged, so that some always wait
SECONDS: Final = {"CHARGE_SECONDS_MIN": "0.1", "CHARGE_SECONDS_MAX": "0.5", "CONNECTORS": "4"}
BATCH_SECONDS: Final = 0.5  # between two lists of requests
# a third at once, while they are on their way; the others wherever they are by then
SOON: Final = 0.05
LATER: Final = 3.0
ALL_ENDED_SECONDS: Final = 180
RESTART_SECONDS: Final = 3.0


@dataclass(slots=True)
class Ends:
    """The events of each job by the log, as they were written."""

    jobs: dict[str, list[Event]] = field(default_factory=dict)
    histories: Histories = field(default_factory=Histories)

    def read(self, body: bytes, _writer: str) -> None:
        """Read a message of the event log."""
        for event in events.decode(body):
            self.jobs.setdefault(event.job, []).append(event)
            self.histories.take(event, monotonic())

    def kinds(self, job: str) -> list[str]:
        """Return the kinds of a job's events."""
        return [str(each.kind) for each in self.jobs.get(job, ())]

    def of(self, job: str) -> set[str]:
        """Return the different ends of a job."""
        return {kind for kind in self.kinds(job) if kind in ENDED}

    def place(self, job: str) -> str:
        """Return where a cancelled job was: by the events before its end, and who wrote that."""
        found = self.jobs[job]
        end = next(each for each in found if each.kind == State.CANCELLED)
        before = {str(each.kind) for each in found[: found.index(end)]}
        if not end.substation:
            return "back from a substation" if State.ASSIGNED in before else "waiting"
        return "charging" if State.CHARGING in before else "at a substation"


# how the table names each of these
PLACES: Final = {
    "waiting": "waiting",
    "at a substation": "sent",
    "charging": "charging",
    "back from a substation": "reclaimed",
}


class Client:
    """A client that requests and cancels, and notes what it is told."""

    def __init__(self, session: aiohttp.ClientSession, random: Random) -> None:
        self._session = session
        self._random = random
        self.told: dict[str, tuple[int, Any]] = {}

    async def request(self, count: int) -> list[str]:
        """Request charging several times at once, and return the ids."""
        async with self._session.post("/charges", json=[{}] * count) as answer:
            assert answer.status == 202, await answer.text()
            return [job["id"] for job in (await answer.json())["jobs"]]

    async def cancel(self, job: str) -> None:
        """Cancel a job, soon or later."""
        soon = self._random.random() < 1 / 3
        await asyncio.sleep(self._random.uniform(0, SOON if soon else LATER))
        async with self._session.delete(f"/charge/{job}") as answer:
            self.told[job] = answer.status, await answer.json(content_type=None)


async def test_cancelled_jobs_end_once(vhost: VirtualHost, tmp_path: Path, form: Form) -> None:
    """By the log, each is cancelled or completed, never both; nothing else ends, or is lost."""
    count = MANY if form.is_long else JOBS
    random = form.chance("cancellation")
    ends = Ends()
    link = StreamReader("ends", [vhost.url()], lambda *_: None, queue=topology.EVENTS)
    with System(vhost, tmp_path, substations=3, environment=SECONDS) as system:
        reading = asyncio.create_task(link.run(read=ends.read))
        url = f"http://{HOST}:{system.ports['api']}"
        connector = aiohttp.TCPConnector(limit=200)
        async with aiohttp.ClientSession(url, connector=connector) as session:
            client = Client(session, random)
            restarts = asyncio.create_task(_restarts(system, count / RATE))
            jobs = await _requested_and_cancelled(client, count)
            await restarts
            async with asyncio.timeout(ALL_ENDED_SECONDS):
                while not all(ends.of(job) for job in jobs):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        reading.cancel()
    assert {job: ends.of(job) for job in jobs if len(ends.of(job)) != 1} == {}
    wrong = {
        job: (status, ends.kinds(job))
        for job, (status, _) in client.told.items()
        if ends.of(job) != {State.COMPLETED if status == 409 else State.CANCELLED}
    }
    assert wrong == {}
    assert set(Counter(status for status, _ in client.told.values())) <= {200, 202, 409}
    places = Counter(ends.place(job) for job in jobs if ends.of(job) == {State.CANCELLED})
    figure = ", ".join(f"{places[place]:,} {word}" for place, word in PLACES.items())
    account = ends.histories.account(jobs)
    form.rows.append(Row(CANCELLATION_FAULT, account, 0, nan, None, [f"cancelled {figure}"]))
    assert account.balanced
    assert {"waiting", "charging"} <= places.keys()


async def _restarts(system: System, seconds: float) -> None:
    """Kill a substation and the dispatcher in turns, and start them again, for so many seconds."""
    until = asyncio.get_running_loop().time() + seconds
    for name in cycle(("substation1", "dispatcher")):
        await asyncio.sleep(RESTART_SECONDS)
        if asyncio.get_running_loop().time() > until:
            return
        system.kill(name)
        system.start(name)


async def _requested_and_cancelled(client: Client, count: int) -> list[str]:
    """Request so many jobs at the rate, cancel each, and return all once every answer is there."""
    jobs: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        while len(jobs) < count:
            batch = min(int(RATE * BATCH_SECONDS), count - len(jobs))
            new = await client.request(batch)
            jobs += new
            for job in new:
                tasks.create_task(client.cancel(job))
            await asyncio.sleep(BATCH_SECONDS)
    return jobs
