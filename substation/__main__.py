"""``python -m substation``: run one substation."""

from __future__ import annotations

import os
import time
from random import Random

from starlette.applications import Starlette

from grid.runtime import run
from grid.settings import parse
from substation.service import build
from substation.settings import SubstationSettings


def service() -> tuple[Starlette, SubstationSettings, int]:
    """Build the substation that the environment describes."""
    settings = parse(SubstationSettings, os.environ)
    random = Random()  # noqa: S311  # a simulation
    return build(settings, random, time.time, time.monotonic), settings, settings.port


if __name__ == "__main__":
    run(service)
