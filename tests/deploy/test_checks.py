"""What must be true of Prometheus and of the substations before it is said that all of it runs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import checks, ready, stack
from deploy.local import prometheus
from tests.deploy.served import pages
from tests.ports import free_ports

SUBSTATIONS = ("north", "south")
JOBS = {"prometheus": 1, "api": 1, "dispatcher": 1}
PAGE = "ev_charging_load 0.0\n"


@contextmanager
def running_prometheus(folder: Path, config: dict[str, Any]) -> Iterator[Callable[[], str | None]]:
    """Run a real Prometheus; yield what asks it for what it lacks."""
    [port] = free_ports(1)
    for job in config["scrape_configs"]:
        if job["job_name"] == "prometheus":
            job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{port}"
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            until(lambda: ready.problem(f"{url}/-/ready") is None)
            yield lambda: checks.prometheus(url, JOBS, SUBSTATIONS)
        finally:
            process.kill()


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def config(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Return the stack's configuration, with one page in the place of all that it scrapes."""
    with pages(lambda *_: (200, PAGE)) as url:
        port = int(url.rpartition(":")[2])
        ports = {**stack.PORTS, stack.API: port, stack.DISPATCHER: port}
        targets = tmp_path / "targets.json"
        groups = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"substation": name}}
            for name in SUBSTATIONS
        ]
        targets.write_text(json.dumps(groups))
        found = yaml.safe_load(prometheus.render(ports, targets, own_broker=False))
        for job in found["scrape_configs"]:
            for files in job.get("file_sd_configs", ()):
                files["refresh_interval"] = "1s"
        yield found


@pytest.mark.integration
def test_prometheus_is_ready_once_it_has_every_target_and_the_rules(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    """With a real one: every target is up, and a substation that comes to be missed is named."""
    with running_prometheus(tmp_path, config) as lacks:
        until(lambda: lacks() is None)
        (tmp_path / "targets.json").write_text("not what Prometheus reads")
        (tmp_path / "targets.json").write_text("[]")
        until(lambda: lacks() == "it has 0 of 1 targets of substation north: see its log")


@pytest.mark.integration
def test_prometheus_without_rules_or_with_a_target_down_is_not_ready(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    """With a real one: the reason is its own."""
    config["rule_files"] = []
    [nobody] = free_ports(1)
    api = next(job for job in config["scrape_configs"] if job["job_name"] == "api")
    working = api["static_configs"]
    api["static_configs"] = [{"targets": [f"127.0.0.1:{nobody}"]}]
    (tmp_path / "one").mkdir()
    with running_prometheus(tmp_path / "one", config) as lacks:
        until(lambda: "connection refused" in str(lacks()))
        assert str(lacks()).startswith("its target api (http://127.0.0.1:")
    api["static_configs"] = working
    (tmp_path / "two").mkdir()
    with running_prometheus(tmp_path / "two", config) as lacks:
        until(lambda: lacks() == "it has not loaded the rules of alerts.yml")


def test_another_program_on_prometheus_port_is_not_ready() -> None:
    """It is named, and so is a port where nothing listens."""
    with pages(lambda *_: (200, {"data": []})) as url:
        assert (
            checks.prometheus(url, JOBS, ())
            == f"{url}: another program than Prometheus answers there"
        )
    assert "refused" in str(checks.prometheus(url, JOBS, ()))


def metrics(**eligible: float) -> str:
    """Return a dispatcher's page."""
    lines = [
        f'dispatcher_substation_eligible{{substation="{name}"}} {value}'
        for name, value in eligible.items()
    ]
    return "\n".join(["# HELP x y", *lines, 'dispatcher_substation_drained{substation="east"} 1.0'])


@pytest.mark.parametrize(
    ("page", "found"),
    [
        (metrics(north=1.0, south=1.0, east=0.0), {}),
        (metrics(north=1.0, south=0.0, east=0.0), {"south": "no consumer on its queue"}),
        (metrics(north=1.0), {"south": "no consumer on its queue"}),
        ("", {"north": "no reason", "south": "no consumer", "east": "no reason"}),
    ],
)
def test_dispatcher_check_names_an_ineligible_substation(page: str, found: dict[str, str]) -> None:
    """The one that is not is named, with the dispatcher's reason; not one that is drained."""
    rows = [{"id": "south", "reason": "no consumer on its queue"}]

    def answer(_: str, path: str, __: bytes) -> tuple[int, Any]:
        return 200, page if path == "/metrics" else {"substations": rows}

    with pages(answer) as url:
        seen = checks.ineligible(f"{url}/metrics", ("north", "south", "east"), url, None)
    assert seen.keys() == found.keys()
    assert all(words in seen[name] for name, words in found.items())


def test_dispatcher_check_names_a_missing_metrics_page() -> None:
    """It is named whatever the substations are."""
    with pages(lambda *_: (500, "broken")) as url:
        found = checks.ineligible(f"{url}/metrics", SUBSTATIONS, url, None)
        assert found == {"dispatcher": f"{url}/metrics: 500"}
    assert "refused" in checks.ineligible(f"{url}/metrics", SUBSTATIONS, url, None)["dispatcher"]


def test_checks_bypass_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables of the caller are ignored."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pages(lambda *_: (200, "fine")) as url:
        assert ready.problem(f"{url}/readyz") is None
