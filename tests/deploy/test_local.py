"""`make up` without Docker, for real, in a copy of the project."""

from __future__ import annotations

import socket

import pytest

from deploy import stack
from deploy.local.ports import HOST
from tests.deploy.clones import Clone

pytestmark = [pytest.mark.e2e, pytest.mark.integration]


def test_up_names_a_taken_port_and_starts_nothing(clone: Clone) -> None:
    """Up refuses before it starts anything, with the port and the variable that moves it."""
    with socket.socket() as taken:
        taken.bind((HOST, clone.ports[stack.PROMETHEUS]))
        taken.listen()
        refused = clone.call("up")
    assert refused.returncode == 1
    assert f"port {clone.ports[stack.PROMETHEUS]} is taken" in refused.stderr
    assert stack.PROMETHEUS in refused.stderr
    assert clone.processes() == {}


def test_up_names_a_wrong_setting_and_starts_nothing(clone: Clone) -> None:
    """Up checks what it passes on to the services."""
    refused = clone.call("up", CONNECTORS="zero")
    assert refused.returncode == 1
    assert "CONNECTORS='zero'" in refused.stderr
    assert clone.processes() == {}


def test_up_stops_everything_when_a_program_does_not_become_ready(clone: Clone) -> None:
    """If a program ends by itself, up says which and why, and leaves nothing running."""
    module = clone.folder / "dispatcher" / "__main__.py"
    module.write_text("raise SystemExit('the dispatcher is broken')\n")
    failed = clone.call("up")
    assert failed.returncode == 1
    assert "dispatcher is not ready" in failed.stdout
    assert "the dispatcher is broken" in failed.stdout
    assert clone.processes() == {}


def test_up_restores_the_previous_settings_when_a_change_fails(clone: Clone) -> None:
    """If a program cannot run with new settings, all of them get the settings from before."""
    module = clone.folder / "dispatcher" / "__main__.py"
    broken = "import os\nif os.environ.get('PREFETCH') == '7': raise SystemExit('not with 7')\n"
    module.write_text(
        module.read_text().replace("import annotations\n", f"import annotations\n{broken}")
    )
    clone.set(CONNECTORS="5")
    first = clone.call("up")
    assert first.returncode == 0, first.stdout + first.stderr

    failed = clone.call("up", PREFETCH="7", CONNECTORS="6")
    assert failed.returncode == 1
    assert "not with 7" in failed.stdout
    assert "with the previous settings" in failed.stdout

    again = clone.call("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert clone.fetch("/charge", "POST")["details"]["routed_to"]
    connectors = {each["connectors"] for each in clone.fetch("/substations")["substations"]}
    assert connectors == {5}
