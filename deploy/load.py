"""``python -m deploy.load``: run the load test against the stack that runs from this folder."""

from __future__ import annotations

import os
from collections.abc import Mapping

from deploy import login, passwords, stack, told
from deploy.local.ports import HOST


def environment(note: stack.Note | None, caller: Mapping[str, str]) -> dict[str, str]:
    """Return the load test's variables for the running stack; the caller's take precedence."""
    ports = note.ports if note else dict(stack.PORTS)
    own = {"API_URL": f"http://{HOST}:{ports[stack.API]}"}
    if note and told.closed(note.settings):
        own["API_KEY_FILE"] = str(stack.SECRETS / passwords.OPERATOR)
    return {**own, **login.broker("load_test", note, caller)}


if __name__ == "__main__":
    login.become("load_test", lambda note: environment(note, os.environ))
