from __future__ import annotations

import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.broker import VirtualHost
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e

KEY, WRONG_KEY, WRONG_PASSWORD = "a-very-secret-key", "a-wrong-secret-key", "a-wrong-password"
LINE = f"depot operator {sha256(KEY.encode()).hexdigest()}"


def places(system: System) -> Iterator[tuple[str, str]]:
    """Yield everything that a service shows of itself: its log, its command, its metrics."""
    for name, process in system.processes.items():
        yield f"{name}'s log", system.log(name)
        yield f"{name}'s command", Path(f"/proc/{process.pid}/cmdline").read_text()
        yield f"{name}'s metrics", str(system.get(name, "/metrics")[1])


def found(system: System, secrets: set[str]) -> list[str]:
    """Return the places where a secret is shown."""
    return [place for place, text in places(system) if any(each in text for each in secrets)]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_service_shows_a_secret(vhost: VirtualHost, tmp_path: Path, form: str) -> None:
    """No password or key, valid or invalid: at level debug, also while the broker is away."""
    broker = vhost.broker
    password = tmp_path / "password"
    password.write_text(broker.passwords["dispatcher"])
    away = f"amqp://somebody:{WRONG_PASSWORD}@127.0.0.1:1/"
    by_file = {
        "AMQP_URL": f"{away},amqp://127.0.0.1:{broker.node.ports.amqp}/{vhost.name}",
        "AMQP_USER": "dispatcher",
        "AMQP_PASSWORD_FILE": str(password),
    }
    special = {
        "api": {"API_KEYS": LINE},
        "dispatcher": by_file,
        "substation2": {
            "AMQP_URL": vhost.url("api").replace(broker.passwords["api"], WRONG_PASSWORD)
        },
    }
    tuned = {**QUICK, "LOG_LEVEL": "debug", "LOG_FORMAT": form}
    system = System(
        vhost,
        tmp_path,
        substations=2,
        environment=tuned,
        special=special,
        programs=form == "text",  # the command lines are the same in both forms
    )
    secrets = {*broker.passwords.values(), KEY, WRONG_KEY, WRONG_PASSWORD}
    try:
        for name in system.services:
            system.start(name)
        system.wait_ready("api", "dispatcher", "substation1", eligible=["substation1"])
        for key, expected in ((KEY, 202), (WRONG_KEY, 401)):
            assert system.post({}, Authorization=f"Bearer {key}")[0] == expected
        system.until(lambda: "refused" in system.log("substation2").lower(), "it is not let in")
        broker.stop()
        system.until(lambda: system.get("api", "/readyz")[0] == 503, "the broker is away")
        broker.start()
        system.wait_ready("api", "dispatcher", "substation1", eligible=["substation1"])
        assert found(system, secrets) == []
        planted = tmp_path / "substation1.log"
        with planted.open("a") as log:
            log.write(f"connecting to {vhost.url('api')}\n")
        assert found(system, secrets) == ["substation1's log"], "what is looked for is not found"
        for name in list(system.processes):
            assert system.end(name, signal.SIGTERM) == 0
    finally:
        system.close()
