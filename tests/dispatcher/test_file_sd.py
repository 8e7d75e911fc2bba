"""One target file has two readers: what the dispatcher makes of it, and what Prometheus does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from dispatcher import targets
from dispatcher.target_file import TargetFile
from grid.errors import ConfigurationError
from tests.prometheus import Prometheus


def group(name: str = "a", address: str = "h:1", **labels: str | None) -> str:
    """Return a file in JSON with one target."""
    labels_of_all = {"substation": name} | labels
    return json.dumps([{"targets": [address], "labels": labels_of_all}])


def flow(labels: str, targets: str = '"h:1"') -> str:
    """Return a file in YAML with one target."""
    return f"- targets: [{targets}]\n  labels: {{{labels}}}\n"


ONE: Final = group()
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
YAML: Final = flow("substation: a")
TWO: Final = '- targets: ["h:1"]\n  labels: &l {substation: a, site: x}\n'

# files of which both make the same: all of the file, or nothing
AGREED: Final[dict[str, str | bytes]] = {
    "plain.json": ONE,
    "no substation.json": "[]",
    "no target.json": '[{"targets": [], "labels": {"substation": "a"}}]',
    "number as label.json": '[{"targets": ["h:1"], "labels": {"substation": 12}}]',
    "number as connectors.json": ONE.replace('"a"', '"a", "connectors": 8'),
    "true as label.json": '[{"targets": ["h:1"], "labels": {"substation": "a", "x": true}}]',
    "list as label.json": '[{"targets": ["h:1"], "labels": {"substation": "a", "x": ["y"]}}]',
    "null as label.json": group(site=None),
    "empty label.json": group(site="", connectors="", __scheme__="", __metrics_path__=""),
    "number as target.json": '[{"targets": [1], "labels": {"substation": "a"}}]',
    "one target, no list.json": '[{"targets": "h:1", "labels": {"substation": "a"}}]',
    "trailing comma.json": ONE.replace("}]", "},]"),
    "comment.json": f"// ours\n{ONE}",
    "comment as in YAML.json": f"# ours\n{ONE}",
    "byte order mark.json": f"\ufeff{ONE}",
    "stray field.json": ONE.replace('{"targets"', '{"note": "x", "targets"'),
    "capitals.json": ONE.replace("targets", "Targets").replace("labels", "LABELS"),
    "long s.json": ONE.replace("targets", "target\u017f"),
    "label twice.json": '[{"targets": ["h:1"], "labels": {"substation": "a", "substation": "b"}}]',
    "field twice.json": '[{"targets": ["h:1"], "targets": ["h:2"], "labels": {"substation": "a"}}]',
    "label with a hyphen.json": group(**{"a-b": "x"}),
    "label without a name.json": group(**{"": "x"}),
    "no list.json": "{}",
    "nothing.json": "",
    "null entry.json": "[null]",
    "not a number.json": '[{"targets": [NaN], "labels": {"substation": "a"}}]',
    "two values.json": ONE + ONE,
    "half.json": ONE[:-1],
    "YAML.json": YAML,
    "raw tab.json": ONE.replace('"a"', '"a", "x": "y\tz"'),
    "escapes.json": ONE.replace('"a"', '"\\u0061", "x": "\\ud800"'),
    "no UTF-8.json": ONE.encode().replace(b'"a"', b'"a", "x": "\xff"'),
    "deep.json": "[" * 20_000 + "]" * 20_000,
    "https.json": group(__scheme__="https"),
    "https without a port.json": group(address="h", __scheme__="https"),
    "no port.json": group(address="h"),
    "IPv6.json": group(address="[::1]:9103"),
    "impossible host.json": group(address="north..example:9100"),
    "impossible port.json": group(address="h:99999"),
    "path.json": group(__metrics_path__="/ev/metrics"),
    "path with a blank and a question.json": group(__metrics_path__="/a b?c%20d(e)'é"),
    "parameters.json": group(__param_b="x y~&/é", __param_a="1"),
    "address as label.json": group(__address__="other:2"),
    "other hidden labels.json": group(__tmp_x="y", __meta_x="y"),
    "job and instance.json": group(job="mine", instance="there"),
    "JSON.yml": ONE,
    "plain.yml": YAML,
    "plain.yaml": YAML,
    "capitals in the name.YML": YAML,
    "number as substation.yml": flow("substation: 12"),
    "leading zero.yml": flow("substation: 012"),
    "no.yml": flow("substation: no"),
    "exponent.yml": flow("substation: 1e3"),
    "date.yml": flow("substation: 2001-01-01"),
    "no date.yml": flow("substation: 2001-99-99"),
    "quoted.yml": flow("substation: \"12\", x: 'no'"),
    "quoted null.yml": flow('substation: "null"'),
    "number as connectors.yml": flow("substation: a, connectors: 8"),
    "null as label.yml": flow("substation: a, site: ~, x: , y: null"),
    "sexagesimal target.yml": flow("substation: a", "10:20"),
    "number as target.yml": flow("substation: a", "9100"),
    "stray field.yml": YAML + "  note: x\n",
    "capitals.yml": YAML.replace("targets", "Targets"),
    "label twice.yml": flow("substation: a, substation: b"),
    "field twice.yml": YAML + '  targets: ["h:2"]\n',
    "label with a hyphen.yml": flow("substation: a, a-b: x"),
    "number as a label's name.yml": flow("substation: a, 7: x"),
    "yes as a label's name.yml": flow("substation: a, yes: x"),
    "list as label.yml": flow("substation: a, x: [y]"),
    "map as label.yml": flow("substation: a, x: {y: z}"),
    "labels as a list.yml": '- targets: ["h:1"]\n  labels: [substation]\n',
    "labels as text.yml": '- targets: ["h:1"]\n  labels: ""\n',
    "one target, no list.yml": "- targets: h:1\n  labels: {substation: a}\n",
    "list as a name.yml": flow("substation: a, ? [a] : b"),
    "list as a field.yml": "- ? [targets]\n  : b\n",
    "map.yml": "{}",
    "text.yml": "substations",
    "null entry.yml": "- \n",
    "empty list.yml": "[]",
    "byte order mark.yml": f"\ufeff{YAML}",
    "UTF-16.yml": b"\xff\xfe" + YAML.encode("utf-16-le"),
    "no UTF-8.yml": YAML.encode().replace(b": a", b": a, x: \xff"),
    "bell.yml": flow('substation: a, x: "b\x07"'),
    "next line.yml": flow('substation: a, x: "b\x85c"'),
    "car.yml": flow("substation: a, x: 🚗"),
    "comment.yml": f"# ours\n---\n{YAML}  # theirs\n",
    "line ends of Windows.yml": YAML.replace("\n", "\r\n"),
    "trailing commas.yml": '[{targets: ["h:1",], labels: {substation: a,},},]',
    "tab.yml": "\t- x",
    "block.yml": "- targets:\n  - 'h:1'\n  labels:\n    substation: a\n    x: |\n      b\n",
    "second document.yml": f'{YAML}---\n- targets: ["h:2"]\n  labels: {{substation: b}}\n',
    "broken second document.yml": f"{YAML}---\n][",
    "YAML 1.1.yml": f"%YAML 1.1\n---\n{YAML}",
    "YAML 1.2.yml": f"%YAML 1.2\n---\n{YAML}",
    "merged labels.yml": TWO + '- targets: ["h:2"]\n  labels: {<<: *l, substation: b}\n',
    "merged labels, none twice.yml": "- targets: []\n  labels: &l {substation: a, site: x}\n"
    '- targets: ["h:2"]\n  labels: {<<: *l, y: z}\n',
    "alias.yml": '- targets: &t ["h:1"]\n  labels: {substation: a}\n'
    "- targets: *t\n  labels: {substation: b}\n",
    "alias of nothing.yml": "- targets: *t\n  labels: {substation: a}\n",
    "alias of itself.yml": "- &a [*a]\n",
    "text by its tag.yml": flow("substation: a, x: !!str 12, y: ! 12"),
    "deep.yml": flow("substation: a, x: " + "[" * 3000 + "]" * 3000),
    "half.yml": YAML[:-3],
    "https.yml": flow("substation: a, __scheme__: https"),
}

# files that Prometheus takes, and the dispatcher refuses, each with the reason
STRICTER: Final[dict[str, tuple[str | bytes, str]]] = {
    "null.json": ("null", "must be a list"),  # as after a slip: all substations would be gone
    "nothing.yml": ("", "must be a list"),
    "only a comment.yml": ("# ours\n", "must be a list"),
    "null.yml": ("null\n", "must be a list"),
    "no targets.json": ('[{"labels": {"substation": "a"}}]', "must have a list of targets"),
    "null targets.json": (ONE.replace('["h:1"]', "null"), "must have a list of targets"),
    "null targets.yml": ("- targets:\n  labels: {substation: a}\n", "must have a list of targets"),
    "null target.json": (ONE.replace('"h:1"', "null"), "a target must be host:port"),
    "null target.yml": (flow("substation: a", "~"), "a target must be host:port"),
    "no labels.json": ('[{"targets": ["h:1"]}]', "needs a label substation"),
    "null labels.json": ('[{"targets": ["h:1"], "labels": null}]', "needs a label substation"),
    "null labels.yml": ('- targets: ["h:1"]\n  labels: ~\n', "needs a label substation"),
    "no substation.yml": (flow("site: a"), "needs a label substation"),
    "null substation.yml": (flow("substation: null"), "needs a label substation"),
    "infinite substation.yml": (flow("substation: .inf"), "needs a label substation"),
    "substation twice.json": (
        '[{"targets": ["h:1", "h:2"], "labels": {"substation": "a"}}]',
        "stands there twice",
    ),
    "no connectors.json": (group(connectors="none"), "connectors must be a number"),
    "scheme.json": (group(__scheme__="ftp"), "__scheme__ must be http or https"),
    "path without a slash.json": (group(__metrics_path__="x"), "__metrics_path__ must begin"),
    "interval.json": (group(__scrape_interval__="5s"), "set it for the job in prometheus.yml"),
    "wrong timeout.json": (group(__scrape_timeout__="soon"), "set it for the job"),
    "URL as target.json": (group(address="http://h:1"), "a target must be host:port"),
    "query in a target.json": (group(address="h:1?x"), "a target must be host:port"),
    "user in a target.json": (group(address="u@h:1"), "a target must be host:port"),
    "blank in a target.json": (group(address="h 1"), "a target must be host:port"),
    "number by its tag.yml": (flow("substation: a, x: !!int 12"), "tags are not read here"),
    "binary.yml": (flow("substation: a, x: !!binary YQ=="), "tags are not read here"),
    "own tag.yml": (flow("substation: a, x: !mine b"), "tags are not read here"),
    "null as a label's name.yml": (flow("substation: a, ~: x"), "cannot be the name of a label"),
}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run a Prometheus that has read every file of both tables."""
    files = tmp_path_factory.mktemp("files")
    rows = AGREED | {name: content for name, (content, _) in STRICTER.items()}
    for name, content in rows.items():
        (files / name).write_bytes(_bytes(content))
    assert len(rows) == len(AGREED) + len(STRICTER)
    with Prometheus(tmp_path_factory.mktemp("prometheus"), files) as running:
        # its targets follow the files after some seconds
        running.until(lambda: "plain.json" in running.targets())
        yield running


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode()


def _dispatchers(name: str, content: str | bytes) -> set[tuple[str, str]] | str:
    """Return what the dispatcher makes of a file: substations and addresses, or why nothing."""
    try:
        found = targets.parse(_bytes(content), Path(name).suffix)
    except ConfigurationError as error:
        return str(error)
    return {(each.substation, _with_port(each.url)) for each in found.values()}


def _with_port(url: str) -> str:
    """Return an address with its scheme's port where it names none, as Prometheus shows it."""
    parts = urlsplit(url)
    if parts.netloc.rpartition("]")[2].count(":"):
        return url
    return parts._replace(netloc=f"{parts.netloc}:{DEFAULT_PORTS[parts.scheme]}").geturl()


@pytest.mark.parametrize("name", AGREED)
def test_target_file_is_read_as_prometheus_reads_it(name: str, prometheus: Prometheus) -> None:
    """Both read the same substations, addresses and paths, or both refuse the file."""
    found = _dispatchers(name, AGREED[name])
    assert (not isinstance(found, str)) == (name in prometheus.accepted()), found
    assert (set() if isinstance(found, str) else found) == prometheus.targets()[name]


@pytest.mark.parametrize("name", STRICTER)
def test_target_file_that_is_useless_to_the_dispatcher_is_refused(
    name: str, prometheus: Prometheus
) -> None:
    """Prometheus accepts the file, or a part of it; the dispatcher says why it does not."""
    content, words = STRICTER[name]
    assert name in prometheus.accepted()
    found = _dispatchers(name, content)
    assert isinstance(found, str), found
    assert words in found


def test_prometheus_counts_refused_target_files(prometheus: Prometheus) -> None:
    """The alert on refused files uses this counter."""
    assert prometheus.read_errors() > 0
    ((labels, found),) = prometheus.samples("prometheus_sd_discovered_targets")
    assert labels == {"config": "substation", "name": "scrape"}
    assert found >= len(prometheus.targets())


@pytest.mark.parametrize("suffix", ["", ".txt", ".json.new", ".jsonl", ".YmL"])
def test_target_file_with_other_suffix_is_refused(suffix: str, tmp_path: Path) -> None:
    """Prometheus does not even start with a configuration that names such a file."""
    file = tmp_path / f"targets{suffix}"
    found = _dispatchers(file.name, ONE)
    assert "name must end in .json, .yml or .yaml" in str(found)


def test_target_file_link_that_is_swapped_is_followed_by_both(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    """Kubernetes replaces a ConfigMap this way; size and time stay the same."""
    for number, name in enumerate("ab"):
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        (folder / "targets.json").write_text(group(name))
        os.utime(folder / "targets.json", (1, 1))
    data, link = tmp_path / "..data", prometheus.files / "swapped.json"
    data.symlink_to("..0")
    link.symlink_to(data / "targets.json")
    file = TargetFile(link)
    for name in "ab":
        found = file.read_change()
        assert found is not None
        assert list(found) == [name]
        addresses = {(name, "http://h:1/metrics")}
        prometheus.until(lambda: prometheus.targets()[link.name] == addresses)  # noqa: B023
        new = tmp_path / "..new"
        new.symlink_to("..1")
        new.replace(data)
