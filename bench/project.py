"""The project's own services as processes, as `make up` runs them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.node import SUBSTATIONS, VirtualHost
from bench.processes import Program, module, page, program, until, until_page
from deploy.local.ports import HOST, free_ports
from deploy.rabbitmq.users import substation_user


@dataclass(frozen=True, slots=True)
class Project:
    """Services that run; ``api_port`` is where the api answers."""

    api_port: int
    programs: Mapping[str, Program]


def targets(folder: Path, ports: Sequence[int]) -> Path:
    """Write the target file that names the substations' pages; return it."""
    file = folder / "substations.json"
    file.write_text(
        json.dumps(
            [
                {"targets": [f"{HOST}:{port}"], "labels": {"substation": name}}
                for name, port in zip(SUBSTATIONS, ports, strict=True)
            ]
        )
    )
    return file


def is_eligible(metrics_port: int, substations: Sequence[str] = SUBSTATIONS) -> bool:
    """Return whether every substation is eligible for a dispatcher."""
    _, content = page(metrics_port, "/metrics")
    return all(
        f'dispatcher_substation_eligible{{substation="{each}"}} 1.0'.encode() in content
        for each in substations
    )


@asynccontextmanager
async def project(
    vhost: VirtualHost, folder: Path, environment: Mapping[str, str]
) -> AsyncIterator[Project]:
    """Run an api, a dispatcher and the substations while the context lasts; all are ready."""
    api_port, dispatcher_port, *pages = free_ports(2 + len(SUBSTATIONS))
    file = targets(folder, pages)
    with ExitStack() as stack:
        programs = {}
        for name, port in zip(SUBSTATIONS, pages, strict=True):
            variables = {
                "AMQP_URL": vhost.url(substation_user(name)),
                "SUBSTATION_ID": name,
                "SUBSTATION_METRICS_PORT": str(port),
                **environment,
            }
            programs[name] = stack.enter_context(
                program(name, module("substation"), variables, folder)
            )
        programs["dispatcher"] = stack.enter_context(
            program(
                "dispatcher",
                module("dispatcher"),
                {
                    "AMQP_URL": vhost.url("dispatcher"),
                    "DISPATCHER_METRICS_PORT": str(dispatcher_port),
                    "SUBSTATIONS_FILE": str(file),
                    **environment,
                },
                folder,
            )
        )
        programs["api"] = stack.enter_context(api(vhost, folder, api_port, environment))
        running = list(programs.values())
        for port in (api_port, dispatcher_port, *pages):
            await until_page(port, "/readyz", running)
        await until(lambda: is_eligible(dispatcher_port), "every substation is eligible", running)
        yield Project(api_port, programs)


def api(
    vhost: VirtualHost, folder: Path, port: int, environment: Mapping[str, str]
) -> AbstractContextManager[Program]:
    """Run an api while the context lasts; the caller checks whether it is ready."""
    variables = {
        "AMQP_URL": vhost.url("api"),
        "API_PORT": str(port),
        "RATE_LIMIT": "1000000",  # one client sends everything
        **environment,
    }
    return program("api", module("api"), variables, folder)
