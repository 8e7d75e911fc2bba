"""``python -m grid.parked``: list, show, replay, discard what is in ``charge.parked``."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time

from grid.errors import GridError
from grid.parked.cli import arguments, run
from grid.parked.queue import ParkedQueue
from grid.settings import Settings, parse


def main() -> int:
    """Run the command line at ``AMQP_URL``; return the exit status."""
    options = arguments(sys.argv[1:])
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # the links report their state themselves
    try:
        queue = ParkedQueue(parse(Settings, os.environ).broker_urls(), _say, time.time)
        return asyncio.run(run(options, queue, sys.stdout, sys.stderr))
    except GridError as error:
        sys.stderr.write(f"{error}\n")
    except KeyboardInterrupt:
        sys.stderr.write(
            "Interrupted: messages not listed as done are in charge.parked as before.\n"
        )
    return 1


def _say(_link: str, up: bool, why: str) -> None:  # noqa: FBT001  # grid.amqp.Watch
    if not up:
        sys.stderr.write(f"RabbitMQ: {why}\n")


if __name__ == "__main__":
    sys.exit(main())
