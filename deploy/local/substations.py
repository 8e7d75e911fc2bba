"""The substations that this machine runs: those of the targets file with an address of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

from deploy.local.ports import HOST
from dispatcher import targets
from grid.errors import ConfigurationError

OWN: Final = frozenset({HOST, "localhost", "::1"})


def read(path: Path) -> dict[str, int]:
    """Give the metrics port of each substation to run here, by id; the others run elsewhere.

    Raises ``ConfigurationError`` for a file that is not there or not a targets file.
    """
    try:
        found = targets.parse(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"SUBSTATIONS_FILE={path}: {error.strerror}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    addresses = {each.substation: urlsplit(each.url) for each in found.values()}
    return {
        name: address.port
        for name, address in addresses.items()
        if address.hostname in OWN and address.port
    }


def moved(path: Path, first: int) -> str:
    """Give the same targets, those of this machine on ``first`` and the ports that follow."""
    groups = yaml.safe_load(path.read_text())
    port = first
    for group in groups:
        for number, address in enumerate(group["targets"]):
            if urlsplit(f"//{address}").hostname in OWN:
                group["targets"][number] = f"{HOST}:{port}"
                port += 1
    return json.dumps(groups, indent=1)
