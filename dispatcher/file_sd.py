"""A target file as Prometheus reads it: bytes in, target groups out. Pure.

Prometheus reads the same file, and refuses all of it where anything is wrong. What it refuses is
refused here, so that nobody finds a substation charging of which no metric is kept. JSON is read as
Go's encoding/json does, YAML as yaml.v2 does in its strict mode: each field must be known and stand
there once, and a scalar is the text that is written there, whatever it looks like.
tests/dispatcher/test_file_sd.py holds both to the same table of files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from reprlib import Repr
from typing import Any, Final, NoReturn

import yaml

from grid.errors import ConfigurationError

JSON_SUFFIXES: Final = (".json", ".JSON")
YAML_SUFFIXES: Final = (".yml", ".yaml", ".YML", ".YAML")
TARGETS: Final = "targets"
LABELS: Final = "labels"
MAX_DEPTH: Final = 10  # of lists and maps in one another: a target file has three
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NULLS: Final = ("", "~", "null", "Null", "NULL")
_STRING_TAGS: Final = (None, "!", "tag:yaml.org,2002:str")
_SHORT: Final = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80
shown: Final = _SHORT.repr
# the C parser is quicker by far; not every build of PyYAML has it
_LOADER: Final = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True, slots=True)
class Group:
    """Some targets, and their common labels; for Prometheus an empty label is no label."""

    targets: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


def parse(content: bytes, suffix: str) -> list[Group]:
    """Return the groups of a file whose name ends in ``suffix``.

    Raises:
        ConfigurationError: Prometheus would refuse the file, or it says nothing at all; with the
            entry that is wrong.
    """
    if suffix in JSON_SUFFIXES:
        return [_json_group(f"entry {n}", each) for n, each in enumerate(_json_list(content))]
    if suffix in YAML_SUFFIXES:
        return [_yaml_group(f"entry {n}", each) for n, each in enumerate(_yaml_list(content))]
    raise ConfigurationError(
        "a target file's name must end in .json, .yml or .yaml, as Prometheus wants it, got "
        f"{shown(suffix)}"
    )


def _labels(where: str, pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    labels = {}
    for name, value in pairs:
        if not _LABEL_NAME.fullmatch(name):
            raise ConfigurationError(f"{where}: {shown(name)} cannot be the name of a label")
        labels[name] = value
    return labels


# JSON


class _Object(list[tuple[str, Any]]):
    """A JSON object: its fields in their order, as a name may stand there twice."""


def _json_list(content: bytes) -> list[Any]:
    try:
        # Go replaces bytes that are not UTF-8 as well
        value = json.loads(
            content.decode("utf-8", errors="replace"),
            object_pairs_hook=_Object,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"not JSON: {error}") from error
    if not isinstance(value, list) or isinstance(value, _Object):
        raise ConfigurationError(f"must be a list of target groups, got {_json_shown(value)}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _json_group(where: str, value: object) -> Group:
    if not isinstance(value, _Object):
        raise ConfigurationError(f"{where} must have a list of targets, got {_json_shown(value)}")
    found: dict[str, Any] = {}
    for name, content in value:
        if (known := name.casefold()) not in (TARGETS, LABELS):
            raise ConfigurationError(
                f"{where}: a field must be {TARGETS} or {LABELS}, got {shown(name)}"
            )
        found[known] = content  # of several fields of one name, Go uses the last
    return Group(_json_targets(where, found.get(TARGETS)), _json_labels(where, found.get(LABELS)))


def _json_targets(where: str, value: object) -> list[str]:
    if not isinstance(value, list) or isinstance(value, _Object):
        raise ConfigurationError(f"{where} must have a list of targets, got {_json_shown(value)}")
    for each in value:
        if not isinstance(each, str | None):
            raise ConfigurationError(
                f"{where}: a target must be host:port, got {_json_shown(each)}"
            )
    return [each or "" for each in value]


def _json_labels(where: str, value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, _Object):
        raise ConfigurationError(
            f"{where} needs a label substation, in an object, got {_json_shown(value)}"
        )
    for name, each in value:
        if not isinstance(each, str | None):
            raise ConfigurationError(
                f"{where} needs a label {name} in quotes, or none, got {_json_shown(each)}"
            )
    return _labels(where, ((name, each or "") for name, each in value))


def _json_shown(value: object) -> str:
    return shown(dict(value) if isinstance(value, _Object) else value)


# YAML


@dataclass(slots=True, eq=False)
class _Node:
    """A node of a YAML file: a scalar, a list or a map.

    Of a map these are keys and values by turns.
    """

    kind: str  # "a value", "a list" or "a map"
    text: str = ""
    is_null: bool = False
    nodes: list[_Node] = field(default_factory=list)

    @property
    def pairs(self) -> Iterator[tuple[_Node, _Node]]:
        return zip(islice(self.nodes, 0, None, 2), islice(self.nodes, 1, None, 2), strict=True)

    def __str__(self) -> str:
        return shown(self.text) if self.kind == "a value" else self.kind


def _yaml_list(content: bytes) -> list[_Node]:
    try:
        root = _composed(content)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigurationError(f"not YAML: {error}") from error
    if root.is_null:
        raise ConfigurationError(f"must be a list of target groups, got {root}")
    if root.kind != "a list":
        raise ConfigurationError(f"must be a list of target groups, got {root}")
    return root.nodes


def _composed(content: bytes) -> _Node:
    """Return the root of the first document; Prometheus reads no other.

    Not by PyYAML's own composer: that calls itself for each level, and one in C ends the process
    over a file that is nothing but brackets.
    """
    root = _Node("a value", is_null=True)
    above: list[_Node] = []
    anchors: dict[str, _Node] = {}
    for event in yaml.parse(content, Loader=_LOADER):
        if isinstance(event, yaml.DocumentStartEvent):
            _check_version(event)
        elif isinstance(event, yaml.DocumentEndEvent):
            return root
        elif isinstance(event, yaml.CollectionEndEvent):
            above.pop()
        elif isinstance(event, yaml.NodeEvent):
            node = _node(event, anchors)
            if above:
                above[-1].nodes.append(node)
            else:
                root = node
            if isinstance(event, yaml.CollectionStartEvent):
                above.append(node)
                if len(above) > MAX_DEPTH:
                    raise ConfigurationError(f"must not have more than {MAX_DEPTH} levels")
    return root


def _check_version(event: yaml.DocumentStartEvent) -> None:
    if event.version not in (None, (1, 1)):
        raise ConfigurationError(f"must be YAML 1.1, got {event.version}")


def _node(event: yaml.NodeEvent, anchors: dict[str, _Node]) -> _Node:
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in anchors:
            raise ConfigurationError(f"*{event.anchor} stands for nothing before it")
        return anchors[event.anchor]
    if (tag := getattr(event, "tag", None)) not in _STRING_TAGS:
        raise ConfigurationError(f"tags are not read here, give plain text; got {shown(tag)}")
    if isinstance(event, yaml.ScalarEvent):
        is_null = event.implicit[0] and event.style in (None, "") and event.value in _NULLS
        node = _Node("a value", event.value, is_null)
    else:
        node = _Node("a list" if isinstance(event, yaml.SequenceStartEvent) else "a map")
    if event.anchor is not None:
        anchors[event.anchor] = node
    return node


def _yaml_group(where: str, node: _Node) -> Group:
    if node.kind != "a map":
        raise ConfigurationError(f"{where} must have a list of targets, got {node}")
    found: dict[str, _Node] = {}
    for name, value in _merged(where, node):
        if name not in (TARGETS, LABELS):
            raise ConfigurationError(
                f"{where}: a field must be {TARGETS} or {LABELS}, got {shown(name)}"
            )
        found[name] = value
    return Group(_yaml_targets(where, found.get(TARGETS)), _yaml_labels(where, found.get(LABELS)))


def _yaml_targets(where: str, node: _Node | None) -> list[str]:
    if node is None or node.kind != "a list":
        raise ConfigurationError(f"{where} must have a list of targets, got {node}")
    return [_text(f"{where}: a target", each) for each in node.nodes]


def _yaml_labels(where: str, node: _Node | None) -> dict[str, str]:
    if node is None or node.is_null:
        return {}
    if node.kind != "a map":
        raise ConfigurationError(f"{where}: {LABELS} must be a map, got {node}")
    pairs = _merged(where, node)
    return _labels(where, ((name, _text(f"{where}: the label {name}", v)) for name, v in pairs))


def _text(what: str, node: _Node) -> str:
    if node.kind != "a value":
        raise ConfigurationError(f"{what} must be a value, got {node}")
    return "" if node.is_null else node.text


def _merged(where: str, node: _Node) -> Iterator[tuple[str, _Node]]:
    """Yield each name of a map with what stands there, those merged into it (``<<``) as well.

    Prometheus refuses a name that stands there twice, be it merged.
    """
    seen = set()
    for key, value in _with_merges(where, node):
        name = _text(f"{where}: a name", key)
        if name in seen:
            raise ConfigurationError(f"{where}: {shown(name)} stands there twice")
        seen.add(name)
        yield name, value


def _with_merges(where: str, node: _Node) -> Iterator[tuple[_Node, _Node]]:
    for key, value in node.pairs:
        if key.kind != "a value" or key.text != "<<":
            yield key, value
            continue
        for each in value.nodes if value.kind == "a list" else [value]:
            if each.kind != "a map":
                raise ConfigurationError(f"{where}: << must be followed by a map, got {each}")
            yield from each.pairs  # what that merges itself is not read: << is no label's name
