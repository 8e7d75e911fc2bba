"""A private RabbitMQ node: its files, environment and commands, for `make up` and the tests.

It belongs to whoever starts it and to one folder, which has its data, log, Erlang cookie and
configuration. It listens on the loopback address only, and when its two processes end nothing is
left.

RabbitMQ's own script is run, not the wrapper in ``/usr/sbin``: run as root, that changes to the
user ``rabbitmq``, who often may not read this folder.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.files import own_folder, read, write
from deploy.local import lock as locks
from deploy.local.ports import HOST
from grid.errors import ConfigurationError

SCRIPT: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's and RabbitMQ's packages
PLUGINS: Final = ("rabbitmq_management", "rabbitmq_prometheus")
COMMON_CONFIG: Final = Path(__file__).parents[1] / "rabbitmq" / "common.conf"
DEFINITIONS: Final = "definitions.json"
COOKIE_BYTES: Final = 24
LOAD_MODULES: Final = Path(__file__).with_name("load_modules.eval")
_LOAD: Final = (
    f'case file:eval(filename:join(os:getenv("HOME"),"{LOAD_MODULES.name}")) of ok->ok;Why->'
    'io:format("~s [warning] modules are not loaded before RabbitMQ is started: ~0p~n",'
    "[calendar:system_time_to_rfc3339(erlang:system_time(second)),Why]) end"
)
_EVALUATE_LOAD: Final = "-eval " + re.sub(r'([ "])', r"\\\1", _LOAD)  # split as by a shell
ERLANGS_OWN: Final = re.compile(r"[A-Z]{20}")  # a cookie that is easily guessed


@dataclass(frozen=True, slots=True)
class NodePorts:
    """The ports of a node: for clients, its management UI, its metrics, and Erlang's own two."""

    amqp: int
    management: int
    prometheus: int
    distribution: int
    epmd: int


@dataclass(frozen=True, slots=True)
class Node:
    """One private node: everything it needs is written into ``folder`` by ``prepare``."""

    folder: Path
    ports: NodePorts
    name: str = "grid@localhost"
    seen: Path | None = None  # the folder as the node's processes see it, where that is another
    plugins: tuple[str, ...] = PLUGINS

    def prepare(self, definitions: Mapping[str, Any]) -> None:
        """Write the node's files; ``definitions`` as of ``deploy.rabbitmq.definitions``."""
        own_folder(self.folder)
        own_folder(self.folder / "conf.d")
        write(self.folder / LOAD_MODULES.name, LOAD_MODULES.read_text(encoding="utf-8"))
        write(self.folder / DEFINITIONS, json.dumps(definitions, indent=1))
        write(self.folder / "rabbitmq.conf", config(self.ports, self._seen / DEFINITIONS))
        write(self.folder / "enabled_plugins", f"[{','.join(self.plugins)}].\n")
        write(self.folder / "advanced.config", "[].\n")
        if not self._cookie.exists() or ERLANGS_OWN.fullmatch(read(self._cookie)):
            write(self._cookie, secrets.token_urlsafe(COOKIE_BYTES), mode=0o400)

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that it reads only at its start; definitions are loaded later."""
        return (self.folder / "rabbitmq.conf",)

    @property
    def _cookie(self) -> Path:
        return self.folder / ".erlang.cookie"

    @property
    def _seen(self) -> Path:
        return self.seen or self.folder

    @property
    def lock(self) -> Path:
        """Return the file that its server holds a lock on while it runs."""
        return self.folder / "lock"

    def environment(self) -> dict[str, str]:
        """Return the variables of both processes, besides ``PATH``."""
        folder = str(self._seen)
        return {
            "HOME": folder,  # the Erlang cookie
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            # with these four, the machine's /etc/rabbitmq is not read
            "RABBITMQ_CONFIG_FILES": f"{folder}/conf.d",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self.ports.epmd),
            "ERL_EPMD_ADDRESS": HOST,
            # RabbitMQ's script puts all other arguments behind the one that starts RabbitMQ
            "ERL_AFLAGS": _EVALUATE_LOAD,
            # otherwise Erlang leaves an epmd daemon running behind
            "ERL_FLAGS": "-start_epmd false",
            # the script then becomes the server: one process, which SIGTERM stops at once
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def epmd_command(self) -> list[str]:
        """Return the command of Erlang's port mapper, to be started before the server.

        Raise ``ConfigurationError`` if Erlang is not installed.
        """
        return [_program("epmd"), "-port", str(self.ports.epmd), "-address", HOST]

    def server_command(self) -> list[str]:
        """Return the command of the server, to be run in the foreground.

        It holds a lock on the folder: two nodes would destroy each other's data.

        Raises:
            ConfigurationError: RabbitMQ is not installed.
        """
        script = str(SCRIPT) if SCRIPT.exists() else _program("rabbitmq-server")
        return [sys.executable, "-I", locks.__file__, str(self._seen / "lock"), script]


def config(ports: NodePorts, definitions: Path) -> str:
    """Return the text of ``rabbitmq.conf``: the settings of all nodes, and this node's ports."""
    return f"""\
{COMMON_CONFIG.read_text(encoding="utf-8")}
listeners.tcp.1 = {HOST}:{ports.amqp}
management.tcp.ip = {HOST}
management.tcp.port = {ports.management}
prometheus.tcp.ip = {HOST}
prometheus.tcp.port = {ports.prometheus}
definitions.local.path = {definitions}
"""


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ConfigurationError(
            f"{name} is not installed: on Debian and Ubuntu it comes with the package "
            "rabbitmq-server; `make up` and `make test` install it"
        )
    return path
