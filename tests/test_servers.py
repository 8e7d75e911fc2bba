from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence

import pytest

from tests.servers import ServerRefused, is_marked

COMMANDS = (
    ["/usr/lib/rabbitmq/bin/rabbitmq-server"],
    ["/usr/bin/python3", "-I", "lock.py", "/usr/lib/rabbitmq/bin/rabbitmq-server"],
    ["epmd", "-port", "1"],
    ["/opt/prometheus/prometheus", "--config.file=x"],
    [b"promtool", "check"],
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_test_without_a_marker_cannot_start_a_server(command: Sequence[str | bytes]) -> None:
    """So `make test-fast`, which runs these, needs none; whoever adds one hears of the marker."""
    with pytest.raises(ServerRefused, match=r"starts .*: mark it with @pytest\.mark\.integration"):
        subprocess.run(command, check=False)  # noqa: S603


async def test_a_test_without_a_marker_cannot_start_a_server_from_a_coroutine() -> None:
    """asyncio's processes are started another way."""
    with pytest.raises(ServerRefused):
        await asyncio.create_subprocess_exec("epmd", "-port", "1")


@pytest.mark.integration
def test_a_test_with_a_marker_may_start_a_server() -> None:
    """Here one that is not installed."""
    with pytest.raises(FileNotFoundError):
        subprocess.run(["/nonexistent/rabbitmq-server"], check=False)


def test_other_programs_may_be_started_by_any_test() -> None:
    """What merely has such a word in its arguments is none."""
    subprocess.run(["true", "prometheus.yml", "--name=rabbitmq"], check=True)  # noqa: S607


def test_a_test_that_asks_for_a_broker_is_marked(request: pytest.FixtureRequest) -> None:
    """By a fixture of its own, or by one that asks for the node of the session."""
    for item in request.session.items:
        if "broker_of_session" in getattr(item, "fixturenames", ()):
            assert is_marked(item), item.nodeid
