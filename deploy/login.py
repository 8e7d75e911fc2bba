"""How a tool that is started by hand logs in at the running stack's broker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from deploy import stack, told
from deploy.local.ports import HOST
from grid.errors import GridError


def become(module: str, environment: Callable[[stack.Note | None], Mapping[str, str]]) -> NoReturn:
    """Become a tool, so that only the tool gets Ctrl-C; exit with the reason if that fails."""
    try:
        variables = environment(stack.Note.read())
    except GridError as error:
        sys.exit(str(error))
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], variables)  # noqa: S606


def broker(user: str, note: stack.Note | None, caller: Mapping[str, str]) -> dict[str, str]:
    """Return address, user and password file, and the caller's variables, which take precedence.

    At our own broker, in containers or not, the user is ``user``; at an outside one, the stack's
    own.
    """
    ports = note.ports if note else dict(stack.PORTS)
    caller = {name: value for name, value in caller.items() if value}
    if told.AMQP_URL in caller:  # another broker: the caller says how to log in
        return caller
    own = {
        told.AMQP_URL: f"amqp://{HOST}:{ports[stack.RABBITMQ]}/",
        told.AMQP_USER: user,
        told.AMQP_PASSWORD_FILE: str(stack.SECRETS / user),
    }
    return {**(told.broker(note.settings if note else {}) or own), **caller}
