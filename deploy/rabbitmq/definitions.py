"""RabbitMQ's definitions: users, their permissions, and the topology, loaded when a node boots.

Each service may do what it does and nothing else: publish through its exchanges, consume its
queues, and declare only what it has to. There is no ``guest``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from grid import topology

VHOST: Final = "/"
SALT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Permission:
    """Regular expressions over names of queues and exchanges; ``^$`` allows none."""

    configure: str
    write: str
    read: str


EVERYTHING: Final = Permission(".*", ".*", ".*")

PERMISSIONS: Final[Mapping[str, Permission]] = {
    "admin": EVERYTHING,
    "api": Permission(
        configure=r"^$",
        write=r"^(charge\.requests|charge\.events|charge\.controls)$",
        read=r"^(charge\.events|charge\.controls)$",
    ),
    # It sets requests back that fit nowhere now, and declares the substations' queues: one with a
    # dead-letter target needs read on the queue and write on the target; binding needs write on the
    # queue, read on the exchange.
    "dispatcher": Permission(
        configure=r"^substation\..+$",
        write=(
            r"^(charge\.requests|charge\.substations|charge\.parked|charge\.events"
            r"|charge\.controls|substation\..+)$"
        ),
        read=(
            r"^(charge\.requests|charge\.substations|charge\.dead|charge\.events"
            r"|charge\.controls|substation\..+)$"
        ),
    ),
    "substation": Permission(configure=r"^$", write=r"^charge\.events$", read=r"^substation\..+$"),
    "load_test": Permission(
        configure=r"^$", write=r"^(charge\.requests)$", read=r"^charge\.events$"
    ),
    # an operator's tool, `python -m grid.parked`
    "parked": Permission(
        configure=r"^$",
        write=r"^(charge\.requests|charge\.events)$",
        read=r"^charge\.parked$",
    ),
}
USERS: Final = tuple(PERMISSIONS)


def render(passwords: Mapping[str, str]) -> dict[str, Any]:
    """Give the whole of the definitions, ready for JSON; ``passwords`` maps each user to its own.

    Raises ``KeyError`` where a user has no password.
    """
    return {
        "users": [_user(name, passwords[name]) for name in USERS],
        "vhosts": [{"name": VHOST}],
        "permissions": [
            {"user": user, "vhost": VHOST, **permission_body(permission)}
            for user, permission in PERMISSIONS.items()
        ],
        **{
            kind: [{"vhost": VHOST, **one} for one in many]
            for kind, many in render_topology().items()
        },
    }


def render_topology() -> dict[str, list[dict[str, Any]]]:
    """Give exchanges, queues and bindings alone, without a virtual host: to load into any one."""
    return {
        "exchanges": [
            {
                "name": name,
                "type": "direct",
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for name in topology.EXCHANGES
        ],
        "queues": [
            {
                "name": queue.name,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(queue.arguments),
            }
            for queue in topology.QUEUES
        ],
        "bindings": [
            {
                "source": queue.exchange,
                "destination": queue.name,
                "destination_type": "queue",
                "routing_key": queue.key,
                "arguments": {},
            }
            for queue in topology.QUEUES
        ],
    }


def permission_body(permission: Permission) -> dict[str, str]:
    """Give a permission as the management API and the definitions write it."""
    return {
        "configure": permission.configure,
        "write": permission.write,
        "read": permission.read,
    }


def hash_password(password: str, salt: bytes) -> str:
    """Hash as RabbitMQ does: a salt of four bytes, then SHA-256 over salt and password, base64."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _user(name: str, password: str) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": hash_password(password, _salt(name, password)),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "administrator" if name == "admin" else "",
    }


def _salt(name: str, password: str) -> bytes:
    """Give a salt that is another for each user and password, but always the same for these.

    The node imports definitions again only when they changed (see ``common.conf``).
    """
    return hashlib.sha256(f"{name}\0{password}".encode()).digest()[:SALT_BYTES]
