"""Erlang loads the modules of a node at once, where it finds them, and boots in any case."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from deploy.local import preload
from deploy.local.rabbitmq import PLUGINS, SCRIPT
from tests.broker import Broker
from tests.faults.brokerside import evaluate

NOT_USED: Final = "wrap_log_reader"  # a module of Erlang's that no RabbitMQ asks for
SERVER: Final = "start_sasl"  # what RabbitMQ boots
TOOL: Final = "start_clean"


@pytest.mark.integration
def test_rabbitmq_node_has_all_modules_loaded(broker: Broker) -> None:
    evaluate(broker, f"{{file,_}}=code:is_loaded({NOT_USED}).")
    evaluate(broker, "{file,_}=code:is_loaded(rabbit_mgmt_app).")


@pytest.mark.integration
def test_rabbitmq_node_knows_where_its_modules_lie(broker: Broker) -> None:
    """They are those of its packages: some look for their other files beside them."""
    places = f'"{SCRIPT.resolve().parents[1]}"++_'
    evaluate(broker, f"{places}=code:which(rabbit_env).")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("boot", "text", "loaded"),
    [
        (SERVER, preload.code_folders(SCRIPT, PLUGINS), True),
        (TOOL, preload.code_folders(SCRIPT, PLUGINS), False),
        (SERVER, '["/gone/rabbit-1/ebin"].\n', False),
        (SERVER, "damaged", False),
        (SERVER, None, False),
    ],
    ids=["server", "tool", "a folder that is gone", "no term", "no file"],
)
def test_erlang_boots_whatever_the_file_says(
    boot: str, text: str | None, *, loaded: bool, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / preload.FILE).write_text(text)
    say = f'io:format("~p",[code:is_loaded({NOT_USED})=/=false]),halt()'
    said = subprocess.run(  # noqa: S603
        ["erl", "-noinput", "-boot", boot, "-eval", say],  # noqa: S607
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ERL_AFLAGS": preload.FLAGS},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert said.stdout.endswith(str(loaded).lower()), said.stdout


def test_application_is_loaded_with_all_that_it_needs(tmp_path: Path) -> None:
    """Each once, though they need each other; what is not installed is left out."""
    needs = {
        "a": "{applications,[kernel,b]}",
        "b": "{included_applications, [a, c]}",
        "c": "",
        "d": "",
    }
    for name, text in needs.items():
        ebin = tmp_path / "plugins" / f"{name}-1" / "ebin"
        ebin.mkdir(parents=True)
        (ebin / f"{name}.app").write_text(text)
    among = {name: tmp_path / "plugins" / f"{name}-1" for name in needs}
    assert preload.needed(["a"], among).keys() == {"a", "b", "c"}


def test_rabbitmq_that_is_installed_elsewhere_is_started_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local.preload.shutil.which", lambda _: None)
    assert preload.code_folders(tmp_path / "sbin" / "rabbitmq-server", PLUGINS) == "[].\n"
