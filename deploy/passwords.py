"""Passwords: made once, one file per user, in a folder that only its owner can enter."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Final

from deploy.files import own_folder, write
from deploy.rabbitmq import definitions
from grid.errors import ConfigurationError

USERS: Final = (*definitions.USERS, "grafana")
DEFINITIONS_FILE: Final = "rabbitmq-definitions.json"
OUTSIDE_BROKER: Final = "outside-broker"


def ensure(folder: Path, *, for_containers: bool = False) -> dict[str, str]:
    """Give each user's password, having made and written those that were not there yet.

    A container sees a file as it is here, owner and mode included, and our image's user is not its
    owner: ``for_containers`` lets all users read the files. On this machine that gives nothing
    away, since nobody else can enter the folder.
    """
    own_folder(folder)
    mode = 0o644 if for_containers else 0o600
    passwords = {user: _password(folder / user) for user in USERS}
    for user in USERS:
        (folder / user).chmod(mode)
    return passwords


def write_definitions(folder: Path, passwords: dict[str, str]) -> Path:
    """Write RabbitMQ's definitions where the node in the container can read them."""
    path = folder / DEFINITIONS_FILE
    write(path, json.dumps(definitions.render(passwords), indent=1), mode=0o644)
    return path


def copy_for_containers(source: str, folder: Path) -> Path:
    """Copy the password of an outside broker to where containers can read it, and nobody else.

    Raises ``ConfigurationError`` where it cannot be read.
    """
    path = own_folder(folder) / OUTSIDE_BROKER
    try:
        write(path, Path(source).read_text(encoding="utf-8"), mode=0o644)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError(f"AMQP_PASSWORD_FILE={source}: cannot be read: {why}") from error
    return path


def _password(path: Path) -> str:
    if not path.exists():
        write(path, secrets.token_urlsafe(24) + "\n")
    return path.read_text().strip()
