"""``python -m api``: run the HTTP interface."""

from __future__ import annotations

import os
import time
from uuid import uuid4

from fastapi import FastAPI

from api.service import build
from api.settings import ApiSettings
from grid.runtime import run
from grid.settings import parse


def service() -> tuple[FastAPI, ApiSettings, int]:
    """Build the api that the environment describes."""
    settings = parse(ApiSettings, os.environ)
    return build(settings, time.time, lambda: str(uuid4())), settings, settings.port


if __name__ == "__main__":
    run(service)
