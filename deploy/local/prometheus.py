"""Prometheus's configuration on this machine: that of the containers, with this one's addresses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from deploy import stack
from deploy.local.ports import HOST

FOLDER: Final = stack.ROOT / "deploy" / "prometheus"
ALERTS: Final = FOLDER / "alerts.yml"  # read from where it is
BROKER: Final = "rabbitmq:15692"
BROKER_JOBS: Final = "rabbitmq"  # the beginning of their names


def render(ports: Mapping[str, int], substations: Path, *, own_broker: bool) -> str:
    """Give the text of ``prometheus.yml``; an outside broker's metrics are its owner's business.

    ``substations`` is the targets file that the dispatcher reads.
    """
    moved = {
        "api:7000": ports[stack.API],
        "dispatcher:6000": ports[stack.DISPATCHER],
        BROKER: ports[stack.RABBITMQ_METRICS],
        "localhost:9090": ports[stack.PROMETHEUS],
    }
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    config["scrape_configs"] = [
        _job(job, moved, substations)
        for job in config["scrape_configs"]
        if own_broker or not job["job_name"].startswith(BROKER_JOBS)
    ]
    return str(yaml.safe_dump(config, sort_keys=False))


def _job(job: dict[str, Any], moved: Mapping[str, int], substations: Path) -> dict[str, Any]:
    for group in job.get("static_configs", []):
        group["targets"] = [f"{HOST}:{moved[address]}" for address in group["targets"]]
    if job["job_name"].startswith(BROKER_JOBS):  # its addresses are in a file of the containers
        del job["file_sd_configs"]
        job["static_configs"] = [{"targets": [f"{HOST}:{moved[BROKER]}"]}]
    for files in job.get("file_sd_configs", []):
        files["files"] = [str(substations)]
    return job
