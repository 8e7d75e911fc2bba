"""Passwords: made once, one file per user, in a folder that only its owner can enter."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Final

from deploy.files import own_folder, write
from deploy.rabbitmq import definitions

USERS: Final = (*definitions.USERS, "grafana")
DEFINITIONS_FILE: Final = "rabbitmq-definitions.json"


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


def _password(path: Path) -> str:
    if not path.exists():
        write(path, secrets.token_urlsafe(24) + "\n")
    return path.read_text().strip()
