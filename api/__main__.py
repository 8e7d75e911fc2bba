"""``python -m api``: run the HTTP interface."""

from __future__ import annotations

import os
import time
from random import Random
from uuid import UUID

from fastapi import FastAPI

from api.service import build
from api.settings import ApiSettings
from grid.runtime import run
from grid.settings import parse


def service() -> tuple[FastAPI, ApiSettings, int]:
    """Build the api that the environment describes."""
    settings = parse(ApiSettings, os.environ)
    # seeded by the system, which is then asked no more: that were three system calls a request
    chance = Random().getrandbits  # noqa: S311  # a job's or a span's name is no secret
    new_id = lambda: str(UUID(int=chance(128), version=4))  # noqa: E731
    return build(settings, time.time, new_id, chance), settings, settings.port


if __name__ == "__main__":
    run(service)
