"""RabbitMQ's users, and what each may do: what its service does, and nothing else.

Source of what an operation needs: RabbitMQ's guide on access control.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from grid import topology


@dataclass(frozen=True, slots=True)
class Permission:
    """Regular expressions over names of queues and exchanges; ``^$`` allows none."""

    configure: str
    write: str
    read: str


FORMER: Final = frozenset({"guest", "substation"})  # of RabbitMQ itself, and of earlier versions

EVERYTHING: Final = Permission(".*", ".*", ".*")

SERVICES: Final[Mapping[str, Permission]] = {
    "admin": EVERYTHING,
    "api": Permission(
        configure=r"^$",
        write=(
            r"^(charge\.requests\.in|charge\.events\.in|charge\.controls\.in"
            r"|charge\.cancellations\.in)$"
        ),
        read=r"^(charge\.events|charge\.controls|charge\.parked)$",
    ),
    # It requeues requests that fit nowhere now, and declares the substations' queues: a queue with
    # a dead-letter target needs read on the queue and write on the target; binding needs write on
    # the queue, read on the exchange.
    "dispatcher": Permission(
        configure=r"^substation\..+$",
        write=(
            r"^(charge\.requests\.in|charge\.substations|charge\.parked|charge\.events\.in"
            r"|charge\.controls\.in|substation\..+)$"
        ),
        read=(
            r"^(charge\.requests|charge\.substations|charge\.dead|charge\.events"
            r"|charge\.controls|charge\.cancellations|substation\..+)$"
        ),
    ),
    "load_test": Permission(configure=r"^$", write=r"^charge\.requests\.in$", read=r"^$"),
    # an operator's tool, `python -m grid.parked`
    "parked": Permission(
        configure=r"^$",
        write=r"^(charge\.requests\.in|charge\.events\.in)$",
        read=r"^charge\.parked$",
    ),
}


def substation_user(substation: str) -> str:
    """Return the name of a substation's user, which is also that of its queue."""
    return topology.substation_queue(substation).name


def permissions(substations: Iterable[str]) -> dict[str, Permission]:
    """Return every user's permission; each of these substations has a user of its own.

    It reads its own queue, and no other substation's jobs; of cancellations, it reads all.
    """
    own = {
        substation_user(each): Permission(
            configure=r"^$",
            write=r"^charge\.events\.in$",
            read=rf"^({re.escape(topology.substation_queue(each).name)}|charge\.cancellations)$",
        )
        for each in substations
    }
    return {**SERVICES, **own}


def writers(users: Iterable[str]) -> dict[str, str]:
    """Return the key with which each of the users may publish events: its own name.

    A regular expression. Without one, RabbitMQ allows a user every key, as it does the
    administrator.
    """
    return {user: f"^{re.escape(user)}$" for user in users if SERVICES.get(user) != EVERYTHING}


def is_withdrawn(user: str, substations: Iterable[str]) -> bool:
    """Return whether a user is a former one, or that of a substation that is gone."""
    if topology.substation_of(user) is None:
        return user in FORMER
    return user not in map(substation_user, substations)
