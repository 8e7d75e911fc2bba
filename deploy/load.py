"""``python -m deploy.load``: run the load test against the stack that runs from this folder."""

from __future__ import annotations

import os
from collections.abc import Mapping

from deploy import environment as env
from deploy import login, passwords, stack
from deploy.local.ports import HOST


def environment(stack_state: stack.StackState | None, caller: Mapping[str, str]) -> dict[str, str]:
    """Return the load test's variables for the running stack; the caller's take precedence."""
    ports = stack_state.ports if stack_state else dict(stack.PORTS)
    own = {"API_URL": f"http://{HOST}:{ports[stack.API]}"}
    if stack_state and env.closed(stack_state.settings):
        own["API_KEY_FILE"] = str(stack.SECRETS / passwords.OPERATOR)
    return {**own, **login.broker("load_test", stack_state, caller)}


if __name__ == "__main__":
    login.become("load_test", lambda stack_state: environment(stack_state, os.environ))
