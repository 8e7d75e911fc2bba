from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher import targets
from dispatcher.targets import Target
from grid.errors import ConfigurationError
from grid.messages import SUBSTATION_PATTERN


def parse(text: str, suffix: str = "") -> dict[str, Target]:
    """Return the targets of a text; without a suffix it is JSON if it looks like it, else YAML."""
    suffix = suffix or (".json" if text[:1] in ("[", "{") else ".yml")
    return targets.parse(text.encode("utf-8", errors="surrogatepass"), suffix)


THREE = [
    {"targets": ["127.0.0.1:9101"], "labels": {"substation": "substation1"}},
    {
        "targets": ["depot.example:80"],
        "labels": {"substation": "depot-north", "connectors": "8", "site": "north"},
    },
    {
        "targets": ["[::1]:9103"],
        "labels": {"substation": "s3", "__metrics_path__": "/ev/metrics", "connectors": "2.5"},
    },
]
FOUND = {
    "substation1": Target("substation1", "http://127.0.0.1:9101/metrics"),
    "depot-north": Target("depot-north", "http://depot.example:80/metrics", 8, {"site": "north"}),
    "s3": Target("s3", "http://[::1]:9103/ev/metrics", 2.5),
}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(THREE),
        json.dumps(THREE, indent=2),
        yaml.safe_dump(THREE),
        "---\n# ours\n" + yaml.safe_dump(THREE),
    ],
    ids=["json", "indented json", "yaml", "yaml with a comment"],
)
def test_targets_are_read_from_json_and_yaml(text: str) -> None:
    """Both forms that Prometheus reads give the same targets; unknown labels are ignored."""
    assert parse(text) == FOUND


@pytest.mark.parametrize(
    "text", ["[]", "--- []", '[{"targets": [], "labels": {"substation": "a"}}]']
)
def test_targets_may_be_empty(text: str) -> None:
    """An empty list is valid: there are no substations yet."""
    assert parse(text) == {}


def entry(**changes: object) -> dict[str, object]:
    """Return a valid target group with these changes."""
    return {"targets": ["h:1"], "labels": {"substation": "b"}} | changes


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("h:1", "must have a list of targets, got 'h:1'"),
        (None, "must have a list of targets, got None"),
        ([], "must have a list of targets"),
        (entry(targets=None), "must have a list of targets"),
        (entry(targets="h:1"), "must have a list of targets"),
        (entry(targets=[7]), "a target must be host:port, got 7"),
        (entry(targets=[""]), "a target must be host:port, got ''"),
        (entry(targets=["http://h:1/metrics"]), "a target must be host:port, got 'http://h:1"),
        (entry(targets=["h:1?x"]), "a target must be host:port, got"),
        (entry(targets=["h:1#x"]), "a target must be host:port, got"),
        (entry(targets=["user@h:1"]), "a target must be host:port, got"),
        (entry(targets=["h 1"]), "a target must be host:port, got"),
        (entry(labels=None), "needs a label substation"),
        (entry(labels={}), "needs a label substation"),
        (entry(labels=["substation"]), "needs a label substation"),
        (entry(labels={"substation": ""}), "needs a label substation .* got ''"),
        (entry(labels={"substation": 7}), "needs a label substation .* got 7"),
        (entry(labels={"substation": "a.b"}), "needs a label substation .* got 'a.b'"),
        (entry(labels={"substation": "x" * 65}), "needs a label substation"),
        (entry(labels={"substation": "b", "connectors": "many"}), "connectors .* got 'many'"),
        (entry(labels={"substation": "b", "connectors": 0}), "connectors .* got 0"),
        (entry(labels={"substation": "b", "connectors": "-1"}), "connectors .* got '-1'"),
        (entry(labels={"substation": "b", "connectors": "nan"}), "connectors .* got 'nan'"),
        (entry(labels={"substation": "b", "connectors": "inf"}), "connectors .* got 'inf'"),
        (entry(labels={"substation": "b", "connectors": True}), "connectors .* got True"),
        (entry(labels={"substation": "b", "__metrics_path__": 7}), "__metrics_path__ .* got 7"),
        (entry(labels={"substation": "b", "__metrics_path__": "x"}), "__metrics_path__ .* got 'x'"),
        (entry(labels={"substation": "a"}), "a stands there twice"),
        (entry(targets=["h:1", "h:2"]), "b stands there twice"),
    ],
)
def test_targets_error_names_the_wrong_entry(group: object, words: str) -> None:
    """The error names the entry, counted from 0, and repeats its value."""
    sound = {"targets": ["h:0"], "labels": {"substation": "a"}}
    with pytest.raises(ConfigurationError, match=f"^entry 1.*{words}"):
        parse(json.dumps([sound, group]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        "substations: 3",
        '[{"targets": ["h:1"]',
        "[" * 5000,
        "[" * 5000 + "]" * 5000,
        "\t- x",
        "a: b: c",
        "\x00",
        "? [a]\n: b",
        "- {[a]: b}",
        "- !!int ''",
        "- !!float ''",
        "- !!bool perhaps",
        "- !!timestamp soon",
        "- 2001-99-99",
        "- !!binary =",
        "- !!python/object/apply:os.getcwd []",
        "- &a [*a]",
        "- *nobody",
    ],
)
def test_targets_refuse_file_that_is_no_list(text: str) -> None:
    """Whatever the file contains instead, it is one clear error."""
    with pytest.raises(ConfigurationError):
        parse(text)


def test_targets_error_is_short() -> None:
    """Aliases that expand to gigabytes are not written out for the error."""
    lines = ["a0: &a0 x"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigurationError) as error:
        parse("\n".join(lines))
    assert len(str(error.value)) < 300


ADDRESS = st.from_regex(r"\A[a-z0-9.-]{1,20}:[1-9][0-9]{0,3}\Z")
NAME = st.from_regex(SUBSTATION_PATTERN[:-1] + r"\Z")  # Hypothesis gives up if few pass a filter


@given(
    st.dictionaries(NAME, st.tuples(ADDRESS, st.none() | st.integers(1, 999))),
    st.sampled_from([json.dumps, yaml.safe_dump]),
)
def test_targets_read_every_valid_file(
    wanted: dict[str, tuple[str, int | None]], write: Callable[[object], str]
) -> None:
    """Each substation that a file names is found, with its address and its connectors."""
    groups = [
        {
            "targets": [address],
            "labels": {"substation": name, **({"connectors": str(n)} if n else {})},
        }
        for name, (address, n) in wanted.items()
    ]
    assert parse(write(groups)) == {
        name: Target(name, f"http://{address}/metrics", n) for name, (address, n) in wanted.items()
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["targets", "labels", "substation", "connectors"]), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@given(st.text() | JSON.map(json.dumps) | JSON.map(yaml.safe_dump))
@example("- !!int ''")
def test_targets_of_any_text_are_valid_or_a_clear_error(text: str) -> None:
    """Whatever a file contains, the worst that happens is an error."""
    try:
        found = parse(text)
    except ConfigurationError as error:
        assert str(error)  # noqa: PT017
    else:
        assert all(name == each.substation for name, each in found.items())
