"""RabbitMQ's definitions: users, their permissions, and the topology, loaded when a node boots.

There is no ``guest``. See ``users.py`` for what a user may do.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from deploy.rabbitmq.users import Permission, permissions, writers
from grid import topology

VHOST: Final = "/"
SALT_BYTES: Final = 4
NOTHING: Final = "^$"


def render(passwords: Mapping[str, str], substations: Iterable[str]) -> dict[str, Any]:
    """Return the whole of the definitions, ready for JSON; ``passwords`` maps each user to its own.

    Each of the substations has a user of its own. Raise ``KeyError`` if a user has no password.
    """
    allowed = permissions(substations)
    return {
        "users": [_user(name, passwords[name]) for name in allowed],
        "vhosts": [{"name": VHOST}],
        **render_permissions(VHOST, allowed),
        **{
            kind: [{"vhost": VHOST, **one} for one in many]
            for kind, many in render_topology().items()
        },
    }


def render_stack(passwords: Mapping[str, str], substations: Iterable[str]) -> dict[str, Any]:
    """Return these definitions with the queue of each substation.

    The dispatcher declares it too, but a substation that is ready earlier would find none.
    """
    names = list(substations)
    queues = [topology.substation_queue(name) for name in names]
    rendered = render(passwords, names)
    for kind, many in _queues(queues).items():
        rendered[kind] = [*rendered[kind], *({"vhost": VHOST, **one} for one in many)]
    return rendered


def render_topology() -> dict[str, list[dict[str, Any]]]:
    """Return exchanges, queues and bindings alone, to load into any virtual host."""
    return {
        "exchanges": [
            {
                "name": name,
                "type": kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for name, kind in topology.EXCHANGES.items()
        ],
        **_queues(topology.QUEUES),
    }


def _queues(queues: Iterable[topology.Queue]) -> dict[str, list[dict[str, Any]]]:
    """Return queues and their bindings."""
    queues = list(queues)
    return {
        "queues": [
            {
                "name": queue.name,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(queue.arguments),
            }
            for queue in queues
        ],
        "bindings": [
            {
                "source": queue.exchange,
                "destination": queue.name,
                "destination_type": "queue",
                "routing_key": queue.key,
                "arguments": {},
            }
            for queue in queues
        ],
    }


def render_permissions(
    vhost: str, allowed: Mapping[str, Permission]
) -> dict[str, list[dict[str, str]]]:
    """Return what each user may do in a virtual host, and the key it has to publish events with."""
    return {
        "permissions": [
            {"user": user, "vhost": vhost, **asdict(each)} for user, each in allowed.items()
        ],
        "topic_permissions": [
            {
                "user": user,
                "vhost": vhost,
                "exchange": topology.EVENTS_EXCHANGE,
                "write": key,
                "read": NOTHING,
            }
            for user, key in writers(allowed).items()
        ],
    }


def hash_password(password: str, salt: bytes) -> str:
    """Return RabbitMQ's hash: four bytes of salt, then SHA-256 of salt and password, as base64."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _user(name: str, password: str) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": hash_password(password, _salt(name, password)),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "administrator" if name == "admin" else "",
    }


def _salt(name: str, password: str) -> bytes:
    """Return a salt that differs for each user and password, but is always the same for these.

    The node imports definitions again only when they have changed (see ``common.conf``).
    """
    return hashlib.sha256(f"{name}\0{password}".encode()).digest()[:SALT_BYTES]
