"""``python -m api``: run the HTTP interface."""

from __future__ import annotations

import os
import time
from functools import partial

from fastapi import FastAPI

from api.app import build
from api.settings import ApiSettings
from grid.random_bits import RandomBits, new_uuid
from grid.runtime import run
from grid.settings import parse


def service() -> tuple[FastAPI, ApiSettings, int]:
    """Build the api that the environment describes."""
    settings = parse(ApiSettings, os.environ)
    chance = RandomBits()  # a substation must not guess other jobs' ids from those of its own
    app = build(settings, time.time, partial(new_uuid, chance), chance)
    return app, settings, settings.port


if __name__ == "__main__":
    run(service)
