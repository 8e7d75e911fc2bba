"""`make up` without Docker: in a folder of any name, called twice, and without all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import logs, stack
from deploy.local.ports import DIRECTLY, HOST
from tests.deploy.clones import Clone

pytestmark = [pytest.mark.e2e, pytest.mark.integration]
# what somebody may have exported for their own RabbitMQ, or to get through to the internet
EXPORTED = {
    **dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9"),
    "RABBITMQ_NODENAME": "other@nowhere",
    "RABBITMQ_CONFIG_FILE": "/nonexistent",
    "ERL_FLAGS": "-nonsense",
    "ERL_AFLAGS": "-eval halt()",
    "ERL_EPMD_PORT": "1",
    "GF_SERVER_HTTP_PORT": "1",
    "LC_ALL": "C",
    "TMPDIR": "/nonexistent",
}


def complaints(clone: Clone) -> list[str]:
    """Return every line of a level above info, but the one of each new RabbitMQ node."""
    least = logs.level_named("warning")
    return [
        f"{file.stem}: {line}"
        for file in sorted((clone.folder / ".run" / "log").glob("*.log"))
        for line in file.read_text(errors="replace").splitlines()
        if (logs.level_of(line) or 0) >= least and "rebuilding indices from scratch" not in line
    ]


def test_up_works_in_any_folder_and_environment(awkward: Clone) -> None:
    """With every substation in Prometheus, unaffected by the caller's variables, and no warning."""
    first = awkward.call("up", CHARGE_SECONDS_MIN="0", CHARGE_SECONDS_MAX="0.1", **EXPORTED)
    assert first.returncode == 0, first.stdout + first.stderr
    url = f"http://{HOST}:{awkward.ports[stack.PROMETHEUS]}/api/v1/targets?state=active"
    with DIRECTLY.open(url, timeout=5) as answer:
        targets = json.load(answer)["data"]["activeTargets"]
    assert {each["health"] for each in targets} == {"up"}
    found = {each["labels"].get("substation") for each in targets}
    assert {"substation1", "substation2", "substation3"} <= found
    [trial] = awkward.fetch("/charges")["charges"]
    assert trial["request"]["vehicle_id"] == "start-up check"
    assert trial["status"] == "completed"
    exported = awkward.environments()
    assert "nowhere" not in exported
    assert "127.0.0.1:9\0" not in exported
    address = f"http://{HOST}:{awkward.ports[stack.PROMETHEUS]}"
    assert f"PROMETHEUS_URL={address}\0" in exported
    assert awkward.call("status", **EXPORTED).returncode == 0
    assert complaints(awkward) == []
    assert awkward.call("down", **EXPORTED).returncode == 0
    assert awkward.processes() == {}


def test_up_fails_when_prometheus_lacks_a_target(clone: Clone) -> None:
    """A stack without metrics is not ready.

    The time is over as soon as nothing else is missing, however long the machine takes to that.
    """
    ready = clone.folder / "deploy" / "ready.py"
    over = "now() > deadline"
    assert ready.read_text().count(over) == 1
    missing = "[why for why in seen.waiting.values() if 'targets of substation' not in why] == []"
    ready.write_text(ready.read_text().replace(over, missing))
    config = clone.folder / "deploy" / "prometheus" / "prometheus.yml"
    config.write_text(config.read_text().replace("job_name: substation", "job_name: others"))
    failed = clone.call("up")
    assert failed.returncode == 1, failed.stdout
    assert "prometheus is not ready: it has 0 of 1 targets of substation" in failed.stdout
    assert "Everything runs" not in failed.stdout
    assert f"The last lines of {clone.folder}/.run/log/prometheus.log" in failed.stdout
    assert clone.processes() == {}


def test_two_concurrent_ups_start_one_stack(awkward: Clone) -> None:
    """The second waits for the first, and finds all of it running."""
    (awkward.folder / ".venv").symlink_to(sys.prefix)
    ports = {name: str(port) for name, port in awkward.ports.items()}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "MODE": "local",
        "CHARGE_SECONDS_MIN": "0",
        "CHARGE_SECONDS_MAX": "0.1",
        **ports,
    }
    both = [
        subprocess.Popen(
            ["make", "up"],  # noqa: S607
            cwd=awkward.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [each.communicate() for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert all("Everything runs" in out for out, _ in said)
    assert sum("waiting for its end" in err for _, err in said) == 1
    assert awkward.node()
    cleaned = subprocess.run(
        ["make", "clean", "YES=1"],  # noqa: S607
        cwd=awkward.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert cleaned.returncode == 0, cleaned.stderr
    assert awkward.processes() == {}
    assert Path(sys.prefix, "bin", "python").exists(), "what .venv led to is not ours"
