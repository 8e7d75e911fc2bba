"""``python -m api``: run the HTTP interface."""

from __future__ import annotations

import os
import time
from uuid import UUID

from fastapi import FastAPI

from api.app import build
from api.settings import ApiSettings
from grid.random_bits import RandomBits
from grid.runtime import run
from grid.settings import parse


def service() -> tuple[FastAPI, ApiSettings, int]:
    """Build the api that the environment describes."""
    settings = parse(ApiSettings, os.environ)
    chance = RandomBits()  # a substation must not guess other jobs' ids from those of its own
    new_id = lambda: str(UUID(int=chance(128), version=4))  # noqa: E731
    return build(settings, time.time, new_id, chance), settings, settings.port


if __name__ == "__main__":
    run(service)
