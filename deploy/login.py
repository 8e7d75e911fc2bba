"""How a tool that is started by hand logs in at the running stack's broker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from deploy import environment as env
from deploy import stack
from deploy.local.ports import HOST
from grid.errors import GridError


def become(
    module: str, environment: Callable[[stack.StackState | None], Mapping[str, str]]
) -> NoReturn:
    """Become a tool, so that only the tool gets Ctrl-C; exit with the reason if that fails."""
    try:
        variables = environment(stack.StackState.read())
    except GridError as error:
        sys.exit(str(error))
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], variables)  # noqa: S606


def broker(
    user: str, stack_state: stack.StackState | None, caller: Mapping[str, str]
) -> dict[str, str]:
    """Return address, user and password file, and the caller's variables, which take precedence.

    At our own broker, in containers or not, the user is ``user``; at an outside one, the stack's
    own.
    """
    ports = stack_state.ports if stack_state else dict(stack.PORTS)
    caller = {name: value for name, value in caller.items() if value}
    if env.AMQP_URL in caller:  # another broker: the caller says how to log in
        return caller
    own = {
        env.AMQP_URL: f"amqp://{HOST}:{ports[stack.RABBITMQ]}/",
        env.AMQP_USER: user,
        env.AMQP_PASSWORD_FILE: str(stack.SECRETS / user),
    }
    return {**(env.broker(stack_state.settings if stack_state else {}) or own), **caller}
