"""Prometheus's configuration on this machine: the containers' own, with local addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from deploy import stack
from deploy.files import read
from deploy.local.paths import from_inside
from deploy.local.ports import HOST
from grid.errors import ConfigurationError

FOLDER: Final = stack.ROOT / "deploy" / "prometheus"
RULES: Final = (FOLDER / "rules.yml", FOLDER / "alerts.yml")  # read from where they are
RETENTION: Final = "31d"  # error budgets are of 30 days
BROKER: Final = "rabbitmq:15692"
BROKER_JOBS: Final = "rabbitmq"  # the beginning of their names
PATTERN: Final = re.compile(r"[*?[\\]")  # characters that it does not take as part of a file's name
TARGET_FILES: Final = (".json", ".yml", ".yaml")


def render(ports: Mapping[str, int], substations: Path, *, own_broker: bool) -> str:
    """Return the text of ``prometheus.yml``; the metrics of an outside broker are left out.

    Args:
        ports: by variable.
        substations: the targets file that the dispatcher reads.
        own_broker: whether the broker is ours.

    Raises:
        ConfigurationError: the containers' ``prometheus.yml`` cannot be read, or cannot be moved.
    """
    source = FOLDER / "prometheus.yml"
    try:
        return _moved(read(source), ports, substations, own_broker=own_broker)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{source} is not what is expected of it: {error!r}") from error


def _moved(text: str, ports: Mapping[str, int], substations: Path, *, own_broker: bool) -> str:
    moved = {
        "api:7000": ports[stack.API],
        "dispatcher:6000": ports[stack.DISPATCHER],
        BROKER: ports[stack.RABBITMQ_METRICS],
        "localhost:9090": ports[stack.PROMETHEUS],
    }
    config = yaml.safe_load(text)
    config["rule_files"] = [str(from_inside(FOLDER / name)) for name in config["rule_files"]]
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
