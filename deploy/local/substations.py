"""The substations that this machine runs: those of the targets file with a local address."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from deploy.local.ports import HOST
from deploy.local.prometheus import TARGET_FILES
from dispatcher import file_sd, targets
from dispatcher.file_sd import Group
from grid.errors import ConfigurationError
from grid.files import content_of

OWN: Final = frozenset({HOST, "localhost", "::1"})
STARTED: Final = "started"  # the label: with the value `elsewhere`, `make up` does not start it
ELSEWHERE: Final = "elsewhere"


def read(path: Path) -> dict[str, int]:
    """Return the metrics port of each substation to run here, by id; others run elsewhere.

    Raises:
        ConfigurationError: the file cannot be read, or is not a targets file.
    """
    if path.suffix not in TARGET_FILES:
        raise ConfigurationError(
            f"SUBSTATIONS_FILE={path}: must end in {', '.join(TARGET_FILES)}: "
            "Prometheus, which reads it too, takes no other"
        )
    try:
        content = content_of(path)
        found = targets.parse(content, path.suffix)
        groups = file_sd.parse(content, path.suffix)
    except OSError as error:
        raise ConfigurationError(f"SUBSTATIONS_FILE={path}: {error.strerror}") from error
    except ConfigurationError as error:
        why = " ".join(str(error).split())  # PyYAML's has several lines
        raise ConfigurationError(f"SUBSTATIONS_FILE={path}: {why}") from error
    ours = {group.labels[targets.SUBSTATION_LABEL] for group in groups if _ours(group)}
    try:
        addresses = {name: urlsplit(each.url) for name, each in found.items() if name in ours}
        ports = {name: each.port for name, each in addresses.items() if each.hostname in OWN}
    except ValueError as error:  # a port above 65535, half an IPv6 address
        raise ConfigurationError(f"SUBSTATIONS_FILE={path}: a target is wrong: {error}") from error
    return {name: port for name, port in ports.items() if port}


def moved(path: Path, first: int) -> str:
    """Return the same targets, with local ones on ``first`` and the ports that follow."""
    groups = file_sd.parse(content_of(path), path.suffix)
    port = first
    for group in filter(_ours, groups):
        for number, address in enumerate(group.targets):
            if urlsplit(f"//{address}").hostname in OWN:
                group.targets[number] = f"{HOST}:{port}"
                port += 1
    return json.dumps([asdict(group) for group in groups], indent=1)


def _ours(group: Group) -> bool:
    return group.labels.get(STARTED) != ELSEWHERE
