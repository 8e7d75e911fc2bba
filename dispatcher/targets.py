"""The substations, read from a target file in Prometheus's ``file_sd`` format. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from dispatcher import file_sd
from dispatcher.file_sd import Group, shown
from grid.errors import ConfigurationError
from grid.messages import valid_substation_id

SUBSTATION_LABEL = "substation"
CONNECTORS_LABEL = "connectors"
INSTANCE_LABEL: Final = "instance"
METRICS_PATH_LABEL = "__metrics_path__"
SCHEME_LABEL: Final = "__scheme__"
PARAMETER_LABELS: Final = "__param_"  # prefix of their names
SCHEMES: Final = ("http", "https")
# Prometheus takes these from the file; how often the dispatcher reads a page is its own setting
OF_THE_JOB: Final = ("__scrape_interval__", "__scrape_timeout__")
_ADDRESS: Final = re.compile(r"[^\s/?#@]+")
_UNESCAPED_IN_PATHS: Final = "$&+,/:;=@"  # by Go's net/url


@dataclass(frozen=True, slots=True)
class Target:
    """One substation: its id, where its metrics are, and its connectors where the file says.

    ``labels`` are the others of its entry, for a policy of one's own.
    """

    substation: str
    url: str
    connectors: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def address(self) -> str:
        """Return the label ``instance`` that Prometheus gives its metrics: its host and port."""
        parts = urlsplit(self.url)
        has_port = parts.netloc.rpartition("]")[2].count(":") == 1
        port = "" if has_port else ":443" if parts.scheme == "https" else ":80"
        return self.labels.get(INSTANCE_LABEL) or parts.netloc + port


def parse(content: bytes, suffix: str) -> dict[str, Target]:
    """Return the targets of a file whose name ends in ``suffix``, by substation.

    Each target needs the label ``substation``; the label ``connectors`` serves a substation whose
    page does not say. Addresses are made as Prometheus makes them.

    Raises:
        ConfigurationError: Prometheus would refuse the file, or an entry is of no use here.
    """
    targets: dict[str, Target] = {}
    for number, group in enumerate(file_sd.parse(content, suffix)):
        where = f"entry {number}"
        for target in _group(where, group):
            if target.substation in targets:
                raise ConfigurationError(f"{where}: {target.substation} stands there twice")
            targets[target.substation] = target
    return targets


def _group(where: str, group: Group) -> list[Target]:
    labels = {name: value for name, value in group.labels.items() if value}
    name = group.labels.get(SUBSTATION_LABEL)
    if not valid_substation_id(name):
        raise ConfigurationError(
            f"{where} needs a label {SUBSTATION_LABEL} of 1 to 64 letters, digits, _ or -, "
            f"got {shown(name)}"
        )
    for label in OF_THE_JOB:
        if label in labels:
            raise ConfigurationError(
                f"{where}: the label {label} is not read here: set it for the job in prometheus.yml"
            )
    scheme, path = _scheme(where, labels), _path(where, labels)
    connectors = _connectors(where, labels.get(CONNECTORS_LABEL))
    own = {
        name: value
        for name, value in labels.items()
        if name not in (SUBSTATION_LABEL, CONNECTORS_LABEL) and not name.startswith("__")
    }
    return [
        Target(str(name), f"{scheme}://{_address(where, address)}{path}", connectors, own)
        for address in group.targets
    ]


def _address(where: str, address: str) -> str:
    if not _ADDRESS.fullmatch(address):
        raise ConfigurationError(f"{where}: a target must be host:port, got {shown(address)}")
    return address


def _scheme(where: str, labels: Mapping[str, str]) -> str:
    scheme = labels.get(SCHEME_LABEL, SCHEMES[0])
    if scheme not in SCHEMES:
        raise ConfigurationError(
            f"{where}: the label {SCHEME_LABEL} must be {' or '.join(SCHEMES)}, got {shown(scheme)}"
        )
    return scheme


def _path(where: str, labels: Mapping[str, str]) -> str:
    """Return path and query as Prometheus writes them: a ``?`` in a path begins no query."""
    path = labels.get(METRICS_PATH_LABEL, "/metrics")
    if not path.startswith("/"):
        raise ConfigurationError(
            f"{where}: the label {METRICS_PATH_LABEL} must begin with /, got {shown(path)}"
        )
    begin = len(PARAMETER_LABELS)
    query = {
        name[begin:]: value for name, value in labels.items() if name.startswith(PARAMETER_LABELS)
    }
    escaped = quote(path, safe=_UNESCAPED_IN_PATHS, errors="replace")
    return escaped + (f"?{urlencode(sorted(query.items()), errors='replace')}" if query else "")


def _connectors(where: str, label: str | None) -> float | None:
    if label is None:
        return None
    try:
        connectors = float(label)
    except ValueError:
        connectors = 0.0
    if not 1 <= connectors < float("inf"):
        raise ConfigurationError(
            f"{where}: the label {CONNECTORS_LABEL} must be a number from 1 on, got {shown(label)}"
        )
    return connectors
