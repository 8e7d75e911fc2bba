"""A real Prometheus that observes a system of tests, with the rules of the project."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from deploy import stack
from deploy.local import prometheus
from deploy.local.ports import HOST
from tests.broker import VirtualHost
from tests.ports import free_ports
from tests.system import System


@contextmanager
def running_prometheus(
    system: System, vhost: VirtualHost, folder: Path, targets: Path | None = None
) -> Iterator[str]:
    """Run Prometheus on the configuration of `make up`; yield its address.

    It reads the system's target file, or other ``targets``. Its data are new each time.
    """
    ports = {
        stack.API: system.ports["api"],
        stack.DISPATCHER: system.ports["dispatcher"],
        stack.RABBITMQ_METRICS: vhost.broker.node.ports.prometheus,
        stack.PROMETHEUS: free_ports(1)[0],
    }
    folder = Path(mkdtemp(prefix="prometheus-", dir=folder))
    config = folder / "prometheus.yml"
    config.write_text(prometheus.render(ports, targets or system.targets, own_broker=True))
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
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)
