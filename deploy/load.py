"""``python -m deploy.load``: runs the load test against the stack that runs from this folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from deploy import stack
from deploy.local.ports import HOST


def environment(note: stack.Note | None, caller: Mapping[str, str]) -> dict[str, str]:
    """Give what the load test is told of the running stack; what the caller says counts more."""
    ports = note.ports if note else dict(stack.PORTS)
    known = {"API_URL": f"http://{HOST}:{ports[stack.API]}"}
    if note and note.amqp_url:
        known["AMQP_URL"] = note.amqp_url
    else:
        known["AMQP_URL"] = f"amqp://{HOST}:{ports[stack.RABBITMQ]}/"
        known["AMQP_USER"] = "load_test"
        known["AMQP_PASSWORD_FILE"] = str(stack.SECRETS / "load_test")
    if caller.get("AMQP_URL"):  # another broker: its address holds its user and password
        known = {"API_URL": known["API_URL"]}
    return {**known, **caller}


if __name__ == "__main__":
    os.execve(  # noqa: S606 - becomes the load test, so that Ctrl-C reaches it alone
        sys.executable,
        [sys.executable, "-m", "load_test", *sys.argv[1:]],
        environment(stack.Note.read(), os.environ),
    )
