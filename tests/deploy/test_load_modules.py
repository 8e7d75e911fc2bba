"""A RabbitMQ node loads the modules that it needs at once, and boots in any case."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from deploy.local.rabbitmq import LOAD_MODULES, SCRIPT, Node, NodePorts
from deploy.rabbitmq.definitions import render
from tests.broker import START_SECONDS, SUBSTATIONS, Broker, new_passwords
from tests.faults.brokerside import evaluate

pytestmark = pytest.mark.integration

APPLICATIONS: Final = "[kernel,ssl,ra,cowboy,rabbit,rabbitmq_management,rabbitmq_prometheus]"
SERVER: Final = "start_sasl"  # what RabbitMQ boots
TOOL: Final = "start_clean"
MANAGEMENT: Final = "rabbit_mgmt_app"
UNUSED: Final = ("pool", "slave", "wrap_log_reader")  # of Erlang's; no RabbitMQ asks for them
WARNING: Final = "[warning] modules are not loaded"


def test_rabbitmq_node_has_the_modules_of_its_applications_loaded(broker: Broker) -> None:
    modules = f"[M||A<-{APPLICATIONS},{{ok,Names}}<-[application:get_key(A,modules)],M<-Names]"
    evaluate(broker, f"true=lists:member({MANAGEMENT},{modules}).")
    evaluate(broker, f"[]=[M||M<-{modules},code:is_loaded(M)==false].")


def test_rabbitmq_node_knows_where_its_modules_lie(broker: Broker) -> None:
    """They are those of its packages: some look for their other files beside them."""
    places = f'"{SCRIPT.resolve().parents[1]}"++_'
    evaluate(broker, f"{places}=code:which(rabbit_env).")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node whose files are written, in a folder with an awkward name."""
    node = Node(tmp_path / "it's a größere folder", NodePorts(1, 2, 3, 4, 5))
    node.prepare(render(new_passwords(), SUBSTATIONS))
    return node


def evaluate_in_erlang(node: Node, expression: str, what: str = SERVER, **changed: str) -> str:
    """Boot Erlang with a node's environment, evaluate an expression, and return the output."""
    plugins = str(SCRIPT.resolve().parents[1] / "plugins")  # as RabbitMQ's script sets it
    return subprocess.run(  # noqa: S603
        ["erl", "-noinput", "-boot", what, "-eval", f"{expression},halt()"],  # noqa: S607
        env={"PATH": os.environ["PATH"], "ERL_LIBS": plugins, **node.environment(), **changed},
        capture_output=True,
        encoding="utf-8",
        timeout=START_SECONDS,
        check=True,
    ).stdout


def boot(node: Node, what: str = SERVER, **changed: str) -> tuple[Mapping[str, bool], str]:
    """Boot Erlang with a node's environment; return which modules are loaded, and what it said."""
    names = ",".join((*UNUSED, MANAGEMENT))
    say = f'[io:format("~n~p ~p",[M,code:is_loaded(M)=/=false])||M<-[{names}]]'
    printed = evaluate_in_erlang(node, say, what, **changed)
    said, *found = printed.rsplit("\n", len(UNUSED) + 1)
    return {name: is_loaded == "true" for name, is_loaded in map(str.split, found)}, said


def test_code_path_is_as_without_loading_modules(node: Node) -> None:
    say = 'io:format("~0p",[code:get_path()])'
    path = evaluate_in_erlang(node, say)
    (node.folder / LOAD_MODULES.name).write_text("ok.\n")
    assert path == evaluate_in_erlang(node, say)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_modules_are_loaded_before_rabbitmq_is_started(node: Node, locale: str) -> None:
    loaded, said = boot(node, LC_ALL=locale)
    assert loaded == {**dict.fromkeys(UNUSED, True), MANAGEMENT: True}
    assert said == ""


def test_modules_of_a_plugin_that_is_not_enabled_are_not_loaded(node: Node) -> None:
    (node.folder / "enabled_plugins").write_text("[].\n")
    loaded, _ = boot(node)
    assert loaded[UNUSED[0]]
    assert not loaded[MANAGEMENT]


def test_tools_with_the_same_environment_load_nothing(node: Node) -> None:
    loaded, said = boot(node, TOOL)
    assert not any(loaded.values())
    assert said == ""


@pytest.mark.parametrize("text", ["damaged", "error(broken).\n", "[] = [1].\n", None])
def test_erlang_boots_with_a_warning_whatever_the_expressions_are(
    node: Node, text: str | None
) -> None:
    file = node.folder / LOAD_MODULES.name
    file.unlink() if text is None else file.write_text(text)
    loaded, said = boot(node)
    assert not any(loaded.values())
    assert said.count(WARNING) == 1


def test_newest_version_of_an_application_is_loaded_with_all_that_it_needs(
    node: Node, tmp_path: Path
) -> None:
    """Each once, though they need each other; what is not installed is left out."""
    old, new, other = UNUSED
    for name, keys in {
        "a-1.9": f"{{modules,[{old}]}}",
        "a-1.10": f"{{modules,[{new}]}},{{applications,[b,not_installed]}}",
        "b-1": f"{{modules,[{other}]}},{{included_applications,[a]}}",
    }.items():
        ebin = tmp_path / "plugins" / name / "ebin"
        ebin.mkdir(parents=True)
        application = name.partition("-")[0]
        (ebin / f"{application}.app").write_text(f"{{application,{application},[{keys}]}}.\n")
    (node.folder / "enabled_plugins").write_text("[a].\n")
    loaded, said = boot(node, ERL_LIBS=str(tmp_path / "plugins"))
    assert loaded == {old: False, new: True, other: True, MANAGEMENT: False}
    assert said == ""
