"""``python -m deploy.load``: runs the load test against the stack that runs from this folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from deploy import stack, told
from deploy.local.ports import HOST


def environment(note: stack.Note | None, caller: Mapping[str, str]) -> dict[str, str]:
    """Give what the load test is told of the running stack; what the caller says counts more."""
    ports = note.ports if note else dict(stack.PORTS)
    known = {"API_URL": f"http://{HOST}:{ports[stack.API]}"}
    caller = {name: value for name, value in caller.items() if value}
    if told.AMQP_URL in caller:  # another broker: the caller says how to log in
        return {**known, **caller}
    own = {
        told.AMQP_URL: f"amqp://{HOST}:{ports[stack.RABBITMQ]}/",
        told.AMQP_USER: "load_test",
        told.AMQP_PASSWORD_FILE: str(stack.SECRETS / "load_test"),
    }
    return {**known, **(told.broker(note.settings if note else {}) or own), **caller}


if __name__ == "__main__":
    os.execve(  # noqa: S606 - becomes the load test, so that Ctrl-C reaches it alone
        sys.executable,
        [sys.executable, "-m", "load_test", *sys.argv[1:]],
        environment(stack.Note.read(), os.environ),
    )
