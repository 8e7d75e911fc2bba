"""Passwords and keys: created once, a file each, in a folder that only its owner can enter."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from api import auth
from api.auth import Scope
from deploy import environment as env
from deploy import stack
from deploy.files import own_folder, read, write
from deploy.rabbitmq import definitions
from deploy.rabbitmq.users import permissions, substation_user
from grid.errors import ConfigurationError
from grid.files import text_of

GRAFANA: Final = "grafana"
DEFINITIONS_FILE: Final = "rabbitmq-definitions.json"
COOKIE: Final = "erlang-cookie"  # by which RabbitMQ's nodes authenticate each other
OUTSIDE_BROKER: Final = "outside-broker"
OUTSIDE_TLS: Final = "outside-broker-tls"  # a folder
OPERATOR: Final = "operator"
KEYS_FILE: Final = "api-keys"
OUTSIDE_KEYS: Final = "outside-api-keys"
MOUNTED: Final = "for"  # a folder for each service, which is all that its container sees
KEYS_REMARK: Final = "# written by `make up`; yours go into a file that API_KEYS_FILE names\n"
PASSWORD_BYTES, KEY_BYTES = 24, 32


def ensure(
    folder: Path, substations: Iterable[str], *, for_containers: bool = False
) -> dict[str, str]:
    """Return each user's password; create and write those that do not exist yet.

    A container sees a file as it is here, owner and mode included, and our image's user is not its
    owner: ``for_containers`` lets all users read the files. On this machine that reveals nothing,
    since nobody else can enter the folder.
    """
    own_folder(folder)
    mode = 0o644 if for_containers else 0o600
    users = (*permissions(substations), GRAFANA)
    passwords = {user: _password(folder / user) for user in users}
    for user in users:
        (folder / user).chmod(mode)
    return passwords


def write_definitions(
    folder: Path, passwords: Mapping[str, str], substations: Iterable[str]
) -> Path:
    """Write RabbitMQ's definitions where the node in the container can read them."""
    path = folder / DEFINITIONS_FILE
    write(path, json.dumps(definitions.render_stack(passwords, substations), indent=1), mode=0o644)
    return path


def ensure_keys(folder: Path, *, for_containers: bool = False) -> Path:
    """Create the operator's key, if there is none yet, and write the file that the api reads.

    That file holds only the key's hash, so containers may read it; they never see the key.
    """
    key = _password(own_folder(folder) / OPERATOR, KEY_BYTES)
    line = f"{OPERATOR} {Scope.OPERATOR} {hashlib.sha256(key.encode()).hexdigest()}\n"
    path = folder / KEYS_FILE
    write(path, KEYS_REMARK + line, mode=0o644 if for_containers else 0o600)
    return path


def operator_key() -> str:
    """Return the operator's key of this folder's stack. Raise ``ConfigurationError`` if none."""
    return read(stack.SECRETS / OPERATOR).strip()


def check_keys(source: str) -> None:
    """Check that the caller's file of keys can be used; else raise ``ConfigurationError``."""
    text = text_of(env.API_KEYS_FILE, Path(source))
    try:
        auth.parse_at_least_one_key(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{env.API_KEYS_FILE}={source}: {error}") from None


def write_for_containers(
    folder: Path, settings: Mapping[str, str], substations: Collection[str]
) -> None:
    """Write all that containers read, also the files that the caller named in ``settings``.

    Raise ``ConfigurationError`` if one of those cannot be read.
    """
    write_definitions(folder, ensure(folder, substations, for_containers=True), substations)
    ensure_keys(folder, for_containers=True)
    _password(folder / COOKIE)
    (folder / COOKIE).chmod(0o644)
    broker = env.broker(settings)
    own_folder(folder / OUTSIDE_TLS).chmod(0o755)  # mounted as it is; its parent is private
    for variable, name, source in (
        (env.AMQP_PASSWORD_FILE, OUTSIDE_BROKER, broker),
        *((variable, f"{OUTSIDE_TLS}/{variable}", broker) for variable in env.TLS_FILES),
        (env.API_KEYS_FILE, OUTSIDE_KEYS, settings),
    ):
        if file := source.get(variable):
            copy_for_containers(variable, file, folder, name)
    if env.API_KEYS_FILE not in settings:
        write(folder / OUTSIDE_KEYS, "", mode=0o644)  # Compose names it in any case
    _hand_out(folder, substations, outside=env.AMQP_PASSWORD_FILE in broker)


def mounted(substations: Iterable[str], *, outside: bool) -> dict[str, dict[str, str]]:
    """Return for each service what its container reads: the name there, and the file it is.

    With an ``outside`` broker's password, each service of ours reads that one.
    """
    users = {"api": "api", "dispatcher": "dispatcher"}
    users |= {name: substation_user(name) for name in substations}
    services = {name: {name: OUTSIDE_BROKER if outside else user} for name, user in users.items()}
    services["api"] |= {name: name for name in (KEYS_FILE, OUTSIDE_KEYS)}
    definitions_name = DEFINITIONS_FILE.removesuffix(".json")
    return {
        **services,
        "rabbitmq": {definitions_name: DEFINITIONS_FILE, COOKIE: COOKIE},
        GRAFANA: {GRAFANA: GRAFANA},
    }


def _hand_out(folder: Path, substations: Collection[str], *, outside: bool) -> None:
    """Copy to each service's folder what its container reads, and remove all else there."""
    services = mounted(substations, outside=outside)
    (folder / MOUNTED).mkdir(mode=0o755, exist_ok=True)
    for old in (folder / MOUNTED).iterdir():
        if old.name not in services:
            shutil.rmtree(old)
    for service, names in services.items():
        own = folder / MOUNTED / service
        own.mkdir(exist_ok=True)
        own.chmod(0o755)  # whatever the caller's umask; its parent's parent is private
        for name, source in names.items():
            write(own / name, read(folder / source), mode=0o644)


def copy_for_containers(variable: str, source: str, folder: Path, name: str) -> Path:
    """Copy the caller's file that a variable names to where only containers can read it.

    Raise ``ConfigurationError`` if it cannot be read.
    """
    path = folder / name
    write(path, text_of(variable, Path(source)), mode=0o644)
    return path


def _password(path: Path, size: int = PASSWORD_BYTES) -> str:
    """Return the password of a file, which is created if there is none.

    Raises:
        ConfigurationError: the file cannot be read, or is empty, as after a full disk.
    """
    if not path.exists():
        write(path, secrets.token_urlsafe(size) + "\n")
    if not (password := read(path).strip()):
        raise ConfigurationError(f"{path} is empty: remove it, and  make up  writes another")
    return password
