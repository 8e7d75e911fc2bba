from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy import stack
from deploy.local import prometheus
from deploy.local.ports import HOST
from tests.broker import VirtualHost
from tests.deploy.dashboards import queries_with_nan, queries_without_data, rules_without_data
from tests.ports import free_ports
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e

SECONDS = 90
RULES_SECONDS = 30  # some rules are evaluated that often


@contextmanager
def running_prometheus(system: System, vhost: VirtualHost, folder: Path) -> Iterator[str]:
    """Run Prometheus on the configuration of `make up`; yield its address."""
    ports = {
        stack.API: system.ports["api"],
        stack.DISPATCHER: system.ports["dispatcher"],
        stack.RABBITMQ_METRICS: vhost.broker.node.ports.prometheus,
        stack.PROMETHEUS: free_ports(1)[0],
    }
    config = folder / "prometheus.yml"
    config.write_text(prometheus.render(ports, system.targets, own_broker=True))
    address = f"{HOST}:{ports[stack.PROMETHEUS]}"
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is not installed: `make test` installs it"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)


def test_every_panel_and_alert_has_data(vhost: VirtualHost, tmp_path: Path) -> None:
    """Each query of the dashboards, and each metric a rule reads, is there in a running system.

    While it is idle, a panel may be empty, and shows nothing that is no number.
    """
    with (
        System(vhost, tmp_path, environment=QUICK) as system,
        running_prometheus(system, vhost, tmp_path) as url,
    ):
        deadline = time.monotonic() + SECONDS
        missing: list[str] = ["not asked yet"]
        while missing and time.monotonic() < deadline:
            time.sleep(1)  # Prometheus scrapes on its own clock
            missing = _asked(url, rules_without_data)
        assert missing == []
        time.sleep(RULES_SECONDS)
        assert queries_with_nan(url) == []
        deadline, missing = time.monotonic() + SECONDS, ["not asked yet"]
        while missing and time.monotonic() < deadline:
            assert system.post()[0] == 202
            time.sleep(1)
            missing = _asked(url, queries_without_data)
        assert missing == []
        assert queries_with_nan(url) == []


def _asked(url: str, missing: Callable[[str], list[str]]) -> list[str]:
    try:
        return missing(url)
    except OSError as error:
        return [f"Prometheus does not answer yet: {error}"]
