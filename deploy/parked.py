"""``python -m deploy.parked``: what is parked at the broker of the stack that runs from here."""

from __future__ import annotations

import os
import sys

from deploy import login, stack

USER = "parked"

if __name__ == "__main__":
    os.execve(  # noqa: S606 - becomes the tool, so that Ctrl-C reaches it alone
        sys.executable,
        [sys.executable, "-m", "grid.parked", *sys.argv[1:]],
        login.broker(USER, stack.Note.read(), os.environ),
    )
