"""What an operator sets, through the api as a process and a real RabbitMQ."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest

from grid import topology
from tests.broker import VirtualHost
from tests.system import System

pytestmark = pytest.mark.e2e

SECRET = "an-operators-key"  # noqa: S105


def api_alone(vhost: VirtualHost, folder: Path) -> System:
    """Return a system in which only the api runs, with an operator's key."""
    file = folder / "keys"
    file.write_text(f"depot operator {sha256(SECRET.encode()).hexdigest()}\n")
    system = System(vhost, folder, environment={"OPERATOR_KEYS_FILE": str(file)})
    system.start("api")
    system.wait_ready("api")
    return system


def put(system: System, substation: str, body: object) -> int:
    """Set a substation; return the answer's status."""
    headers = {"Authorization": f"Bearer {SECRET}"}
    return system.call("api", "PUT", f"/substations/{substation}", body, headers)[0]


def test_a_new_api_knows_what_was_set(vhost: VirtualHost, tmp_path: Path) -> None:
    """An api that is killed and started again reads what was set, and goes on from there."""
    system = api_alone(vhost, tmp_path)
    try:
        for name in ("substation1", "substation2"):
            system.until(lambda name=name: put(system, name, {"limit": 3}) == 200, "it is set")  # type: ignore[misc]
        system.kill("api")
        system.start("api")
        system.until(lambda: "controls are read: 2 substations" in system.log("api"), "it reads")
        assert put(system, "substation1", {"state": "draining"}) == 200
        said = 'operator "depot" set substation1 draining, limit none'
        # a line is written in the next turn of the api's loop, maybe after the answer
        system.until(lambda: said in system.log("api"), "it is logged")
        assert system.log("api").count(said) == 1
        assert SECRET not in system.log("api")
    finally:
        system.close()


def test_an_api_goes_on_where_the_broker_was_not_given_the_stream(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """At an older broker only setting is refused: requests are accepted, the api is ready."""
    for what in (
        f"queues/{{}}/{topology.CONTROLS}",
        f"exchanges/{{}}/{topology.CONTROLS_EXCHANGE}",
    ):
        vhost.broker.request("DELETE", f"/api/{what.format(quote(vhost.name))}")
    system = api_alone(vhost, tmp_path)
    try:
        system.until(lambda: "no queue 'charge.controls'" in system.log("api"), "it is said")
        for _ in range(20):
            assert system.post(Prefer="respond-async")[0] == 202
        assert put(system, "substation1", {}) == 503
        assert system.log("api").count("charge.controls") == 1
        assert system.get("api", "/readyz")[0] == 200
    finally:
        system.close()
