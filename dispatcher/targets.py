"""The substations there are: read from a target file in Prometheus's ``file_sd`` format. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from reprlib import Repr
from typing import Any, Final

import yaml

from grid.errors import ConfigurationError
from grid.messages import valid_substation_id

SUBSTATION_LABEL = "substation"
CONNECTORS_LABEL = "connectors"
METRICS_PATH_LABEL = "__metrics_path__"
_ADDRESS: Final = re.compile(r"[^\s/?#@]+")
_SHORT: Final = Repr()  # references in YAML can make a small file's value too large to write out
_SHORT.maxlevel, _SHORT.maxstring = 2, 80
shown: Final = _SHORT.repr


@dataclass(frozen=True, slots=True)
class Target:
    """One substation: its id, where its metrics are, and its connectors where the file says."""

    substation: str
    url: str
    connectors: float | None = None


def parse(text: str) -> dict[str, Target]:
    """Read a target file, JSON or YAML; gives the targets by substation.

    Each target needs the label ``substation``; the label ``connectors`` serves a substation whose
    page does not say. Raises ``ConfigurationError`` that says which entry is wrong.
    """
    targets: dict[str, Target] = {}
    for number, group in enumerate(_groups(text)):
        where = f"entry {number}"
        for target in _group(where, group):
            if target.substation in targets:
                raise ConfigurationError(f"{where}: {target.substation} stands there twice")
            targets[target.substation] = target
    return targets


def _groups(text: str) -> list[Any]:
    try:
        groups = yaml.safe_load(text)  # JSON is YAML too
    # a value that is not what its tag says makes PyYAML fail in any of these ways
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"neither JSON nor YAML: {error}") from error
    if not isinstance(groups, list):
        raise ConfigurationError(f"must be a list of target groups, got {shown(groups)}")
    return groups


def _group(where: str, group: object) -> list[Target]:
    if not isinstance(group, dict) or not isinstance(group.get("targets"), list):
        raise ConfigurationError(f"{where} must have a list of targets, got {shown(group)}")
    labels = group.get("labels") or {}
    name = labels.get(SUBSTATION_LABEL) if isinstance(labels, dict) else None
    if not valid_substation_id(name):
        raise ConfigurationError(
            f"{where} needs a label {SUBSTATION_LABEL} of 1 to 64 letters, digits, _ or -, "
            f"got {shown(name)}"
        )
    path = _path(where, labels.get(METRICS_PATH_LABEL, "/metrics"))
    connectors = _connectors(where, labels.get(CONNECTORS_LABEL))
    return [
        Target(str(name), f"http://{_address(where, address)}{path}", connectors)
        for address in group["targets"]
    ]


def _address(where: str, address: object) -> str:
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise ConfigurationError(f"{where}: a target must be host:port, got {shown(address)}")
    return address


def _path(where: str, path: object) -> str:
    if not isinstance(path, str) or not path.startswith("/"):
        raise ConfigurationError(
            f"{where}: the label {METRICS_PATH_LABEL} must begin with /, got {shown(path)}"
        )
    return path


def _connectors(where: str, label: object) -> float | None:
    if label is None:
        return None
    try:
        connectors = float(label) if isinstance(label, str | int | float) else 0.0
    except (ValueError, OverflowError):
        connectors = 0.0
    if label is True or not 1 <= connectors < float("inf"):
        raise ConfigurationError(
            f"{where}: the label {CONNECTORS_LABEL} must be a number from 1 on, got {shown(label)}"
        )
    return connectors
