"""What one entry of the live target file, or the file itself, does to the system that runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from deploy.local.ports import HOST
from tests.broker import VirtualHost
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e


def write(system: System, addresses: dict[str, str]) -> None:
    """Replace the target file."""
    groups = [{"targets": [at], "labels": {"substation": name}} for name, at in addresses.items()]
    new = system.targets.with_suffix(".new")
    new.write_text(json.dumps(groups))
    new.replace(system.targets)


def reason(system: System, name: str) -> str:
    """Return why a substation is not chosen, as the api shows it; empty where it is."""
    rows = system.get("api", "/substations")[1]["substations"]
    found = next((each for each in rows if each["id"] == name), None)
    return "" if found is None or found["eligible"] else str(found["reason"])


def routes(system: System) -> set[str]:
    """Return where requests go that are sent now; each must be answered and charged."""
    status, answer = system.post([{}] * 20, path="/charges")
    assert status == 202, answer
    ids = {job["id"] for job in answer["jobs"]}
    system.wait_completed(ids)
    return {each["substation"] for each in system.all_charges() if each["id"] in ids}


def test_dispatcher_goes_on_whatever_one_entry_or_the_target_file_does(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """A bad entry makes its own substation ineligible, with the reason; a bad file does nothing."""
    with System(vhost, tmp_path, substations=2, environment=QUICK) as system:
        one, two = system.substations
        own = {name: f"{HOST}:{system.ports[name]}" for name in system.substations}
        pid = system.processes["dispatcher"].pid

        write(system, own | {"north": "north..example:9100"})
        system.until(lambda: "cannot be looked up" in reason(system, "north"), "the host is told")
        assert routes(system) == {one, two}

        write(system, own | {two: own[one]})
        system.until(lambda: f"is that of {one}" in reason(system, two), "the page is told")
        assert routes(system) == {one}

        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "fifo").replace(system.targets)
        system.until(
            lambda: "no regular file" in str(system.get("dispatcher", "/readyz")),
            "the FIFO is told",
        )
        assert routes(system) == {one}
        assert "dispatcher_target_file_ok 0.0" in str(system.get("dispatcher", "/metrics")[1])

        system.targets.unlink()
        write(system, own)
        system.until(lambda: system.get("dispatcher", "/readyz")[0] == 200, "all is well again")
        system.until(lambda: not reason(system, two), "both can be chosen")
        assert routes(system) == {one, two}
        assert "dispatcher_targets 2.0" in str(system.get("dispatcher", "/metrics")[1])
        assert "dispatcher_target_file_ok 1.0" in str(system.get("dispatcher", "/metrics")[1])
        assert "grid_unforeseen_errors_total 0.0" in str(system.get("dispatcher", "/metrics")[1])
        assert system.processes["dispatcher"].pid == pid
        assert system.processes["dispatcher"].poll() is None
