"""Two chains from a request to its session: the project's own, and a plain one."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from bench.node import SUBSTATIONS, VirtualHost
from bench.processes import OK, NotMeasured, Program, module, page, program, until_page
from bench.project import project
from deploy.local.ports import free_ports
from deploy.rabbitmq.users import substation_user

CONNECTORS: Final = 500  # of each substation: they must not be the limit
CHARGE_SECONDS: Final = 0.1
SETTINGS: Final = {
    "CONNECTORS": str(CONNECTORS),
    "CHARGE_SECONDS_MIN": str(CHARGE_SECONDS),
    "CHARGE_SECONDS_MAX": str(CHARGE_SECONDS),
    "RATED_POWER_KW": "1000000",
}
SUBSTATIONS_SHOWN: Final = "substations"  # all three together


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that runs; ``began`` returns when each job began, and may end programs for this."""

    port: int
    programs: Mapping[str, Program]
    began: Callable[[], dict[str, float]]

    def shown(self) -> dict[str, list[Program]]:
        """Return the programs by the name under which their cost is shown."""
        found: dict[str, list[Program]] = {}
        for name, each in self.programs.items():
            found.setdefault(SUBSTATIONS_SHOWN if name in SUBSTATIONS else name, []).append(each)
        return found


Start = Callable[[VirtualHost, Path], AbstractAsyncContextManager[Chain]]


@asynccontextmanager
async def ours(vhost: VirtualHost, folder: Path) -> AsyncIterator[Chain]:
    """Run the project."""
    async with project(vhost, folder, SETTINGS) as running:
        programs = dict(running.programs)
        yield Chain(running.api_port, programs, lambda: _began_by_api(running.api_port))


@asynccontextmanager
async def plain(vhost: VirtualHost, folder: Path) -> AsyncIterator[Chain]:
    """Run the plain chain on aio-pika."""
    (port,) = free_ports(1)
    files = [folder / f"{name}-began-{time.monotonic_ns()}" for name in SUBSTATIONS]
    with ExitStack() as stack:
        programs: dict[str, Program] = {}
        for name, file in zip(SUBSTATIONS, files, strict=True):
            variables = {
                "AMQP_URL": vhost.url(substation_user(name)),
                "SUBSTATION_ID": name,
                "CONNECTORS": str(CONNECTORS),
                "CHARGE_SECONDS": str(CHARGE_SECONDS),
                "BEGAN": str(file),
            }
            programs[name] = stack.enter_context(
                program(f"plain-{name}", module("bench.peers.plain_worker"), variables, folder)
            )
        programs["dispatcher"] = stack.enter_context(
            program(
                "plain-relay",
                module("bench.peers.plain_relay"),
                {"AMQP_URL": vhost.url("dispatcher")},
                folder,
            )
        )
        programs["api"] = stack.enter_context(
            program(
                "plain-api",
                module("bench.peers.plain_api"),
                {"AMQP_URL": vhost.url("api"), "PORT": str(port)},
                folder,
            )
        )
        await until_page(port, "/openapi.json", list(programs.values()))
        workers = [programs[name] for name in SUBSTATIONS]
        yield Chain(port, programs, lambda: _began_by_workers(workers, files))


def _began_by_api(port: int) -> dict[str, float]:
    """Return when each job began to charge, in Unix seconds, as the api lists them."""
    found: dict[str, float] = {}
    after: str | None = ""
    while after is not None:
        status, content = page(port, f"/charges?limit=1000{after and '&after=' + after}")
        if status != OK:
            raise NotMeasured(f"GET /charges was answered {status}: {content[:200]!r}")
        listed = json.loads(content)
        for job in listed["charges"]:
            if (at := job["times"].get("charging")) is not None:
                found[job["id"]] = datetime.fromisoformat(at).timestamp()
        after = listed["next"]
    return found


def _began_by_workers(workers: list[Program], files: list[Path]) -> dict[str, float]:
    """End the workers, and return when each job began, in Unix seconds, as they noted it."""
    for each in workers:
        each.stop()
    found: dict[str, float] = {}
    for file in files:
        found |= dict(map(json.loads, file.read_text().splitlines()))
    return found
