"""``python -m grid declare``: declare the exchanges and queues that the services share."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from grid.amqp import declare_topology
from grid.errors import GridError
from grid.settings import Settings, parse


def main() -> None:
    """Declare the topology at ``AMQP_URL``."""
    parser = argparse.ArgumentParser(prog="python -m grid", description=__doc__)
    parser.add_argument("command", choices=["declare"])
    parser.parse_args()
    try:
        urls = parse(Settings, os.environ).broker_urls()
        asyncio.run(declare_topology(urls, _say))
    except GridError as error:
        sys.exit(str(error))


def _say(_link: str, _up: bool, why: str) -> None:  # noqa: FBT001  # grid.amqp.Watch
    sys.stderr.write(f"RabbitMQ: {why}\n")


if __name__ == "__main__":
    main()
