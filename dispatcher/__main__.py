"""``python -m dispatcher``: run the dispatcher."""

from __future__ import annotations

import os
import time
from random import Random

from starlette.applications import Starlette

from dispatcher.app import build
from dispatcher.settings import DispatcherSettings
from grid.runtime import run
from grid.settings import parse


def service() -> tuple[Starlette, DispatcherSettings, int]:
    """Build the dispatcher that the environment describes."""
    settings = parse(DispatcherSettings, os.environ)
    return build(settings, Random(), time.time), settings, settings.port  # noqa: S311  # a fair draw


if __name__ == "__main__":
    run(service)
