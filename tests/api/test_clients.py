"""Clients that are generated from the document of a running api work with it."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from grid.events import Event, State
from tests.api.harness import AT, Bench, assigned

PACKAGE: Final = "smart_grid_dispatcher_client"
SCRIPTS: Final = Path(sys.executable).parent
TYPESCRIPT: Final = Path(__file__).parent / "typescript"
COMPILE: Final = ("--strict", "--module", "nodenext", "--target", "es2022")
GENERATE: Final = ("generate", "--overwrite", "--fail-on-warning", "--meta", "none")


def run(folder: Path, *command: str) -> str:
    """Run a program of the environment in a folder, and return what it prints."""
    path = os.pathsep.join([str(SCRIPTS), os.environ["PATH"]])
    done = subprocess.run(  # noqa: S603
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Serve an api that waits for the decision."""
    async with Bench(decision_wait=20).serve() as found:
        yield found


@pytest.fixture
async def client(bench: Bench, tmp_path: Path) -> AsyncIterator[ModuleType]:
    """Make a Python client of the live document; a warning of the generator is an error."""
    url = f"http://127.0.0.1:{bench.port}/openapi.json"
    command = (str(SCRIPTS / "openapi-python-client"), *GENERATE, "--url", url)
    output = ("--output-path", str(tmp_path / PACKAGE))
    await asyncio.to_thread(run, tmp_path, *command, *output)
    sys.path.insert(0, str(tmp_path))
    try:
        yield importlib.import_module(PACKAGE)
    finally:
        sys.path.remove(str(tmp_path))
        for name in [each for each in sys.modules if each.split(".")[0] == PACKAGE]:
            del sys.modules[name]


def part(name: str) -> Any:  # noqa: ANN401  # made by the test
    """Return a module of the generated client."""
    return importlib.import_module(f"{PACKAGE}.{name}")


async def test_generated_python_client_requests_a_charge_and_follows_it(
    bench: Bench, client: ModuleType
) -> None:
    """Body, headers, answer and problem documents are those that the document describes."""
    models = part("models")
    api = client.Client(base_url=f"http://127.0.0.1:{bench.port}")
    async with api:
        wanted = models.ChargeIn(vehicle_id="bus 12", priority=9)
        create = part("api.charging.create_charge")
        asking = asyncio.create_task(
            create.asyncio_detailed(client=api, body=wanted, idempotency_key="tour-7")
        )
        await bench.until(lambda: any(each.status for each in bench.projection.after(None)))
        (job,) = bench.projection.after(None)
        bench.hear(assigned(job.id, "s1", s1=0, s2=3))
        answer = await asking
        assert answer.status_code == 202
        assert answer.headers["Location"] == f"/charge/{job.id}"
        accepted = answer.parsed
        assert (accepted.id, accepted.status) == (job.id, models.State.ASSIGNED)
        assert accepted.details.routed_to == "s1"
        assert accepted.details.loads.additional_properties == {"s1": 0, "s2": 3}
        assert accepted.times.assigned.timestamp() == AT + 1

        bench.hear(Event(State.CHARGING, AT + 2, job.id, "s1", 1))
        get = part("api.jobs.get_charge")
        found = await get.asyncio(job.id, client=api, wait=5, until=models.State.CHARGING)
        assert found.status is models.State.CHARGING
        assert found.request.vehicle_id == "bus 12"
        assert found.decision.candidates[1].load == 3

        list_ = part("api.jobs.list_charges")
        page = await list_.asyncio(client=api, vehicle_id="bus 12", status="charging,completed")
        assert [each.id for each in page.charges] == [job.id]
        stats = await part("api.jobs.get_stats").asyncio(client=api)
        assert stats.total.sessions == 1
        rows = await part("api.substations.list_substations").asyncio(client=api)
        assert rows.substations == []

        snapshot = models.StreamSnapshot.from_dict(await bench.first_event("/events"))
        assert [(each.id, each.power_kw) for each in snapshot.jobs] == [(job.id, 7.4)]
        assert snapshot.status.counts.additional_properties["charging"] == 1

        wrong = await get.asyncio("nobody", client=api)
        assert (type(wrong), wrong.code) == (models.Problem, "unknown-job")
        invalid = await create.asyncio(client=api, body=models.ChargeIn(priority=10))
        assert [each.field for each in invalid.errors] == ["priority"]


@pytest.mark.integration  # npm loads what its lock file names
async def test_generated_typescript_client_compiles_and_requests_a_charge(
    bench: Bench, tmp_path: Path
) -> None:
    """The types of the live document are those of its answers, as a strict compiler sees them."""
    for name in ("package.json", "package-lock.json", "client.ts"):
        shutil.copy(TYPESCRIPT / name, tmp_path)
    url = f"http://127.0.0.1:{bench.port}"
    programs = "node_modules/.bin"
    for command in (
        ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
        (f"{programs}/openapi-typescript", f"{url}/openapi.json", "--output", "schema.d.ts"),
        (f"{programs}/tsc", *COMPILE, "client.ts"),
    ):
        await asyncio.to_thread(run, tmp_path, *command)
    found = json.loads(await asyncio.to_thread(run, tmp_path, "node", "client.js", url))
    (job,) = bench.projection.after(None)
    assert found == {
        "id": job.id,
        "status": "queued",
        "routedTo": None,
        "since": "2026-01-01T00:00:00Z",
        "listed": [job.id],
        "vehicle": "bus 12",
        "followed": ["queued"],
        "wrong": "unknown-job",
        "rows": [],
    }


def test_generated_client_has_a_function_for_every_operation(client: ModuleType) -> None:
    """None is left out, as generators do with what they cannot read."""
    folder = Path(str(client.__file__)).parent / "api"
    made = {path.stem for path in folder.rglob("*.py")} - {"__init__"}
    assert made == {
        *("create_charge", "create_charges", "get_charge", "list_charges", "export_charges"),
        *("cancel_charge", "cancel_charge_by_post", "replay_parked", "discard_parked"),
        "stream_events",
        *("get_stats", "list_substations", "get_substation", "replace_substation_controls"),
        *("get_substation_limits", "replace_substation_limits", "remove_substation_limits"),
        *("change_substation_controls", "get_metrics", "get_liveness", "get_readiness"),
    }
