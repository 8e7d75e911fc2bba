"""``python -m deploy.parked``: the parked messages at the broker of the stack that runs here."""

from __future__ import annotations

import os

from deploy import login

USER = "parked"

if __name__ == "__main__":
    login.become("grid.parked", lambda stack_state: login.broker(USER, stack_state, os.environ))
