"""Options that the commands against the running system have in common."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from grid.errors import ConfigurationError
from load_test.files import check_folder
from load_test.outcome import DEFAULT_TIMEOUT
from load_test.publisher import DEFAULT_RETRY_TIMEOUT
from load_test.report import write

DEFAULT_URL: Final = "http://127.0.0.1:7000"
ENVIRONMENT: Final = """
environment: API_URL (see --url), API_KEY_FILE (a file with the key, if the api needs one); for
--via amqp AMQP_URL, AMQP_USER, AMQP_PASSWORD_FILE.

exit status: 0 every accepted request has ended; 1 a request was lost, or none was accepted;
2 wrong usage; 130 interrupted by Ctrl-C, after a summary of what is known by then.
"""


def add_way(parser: argparse.ArgumentParser, url: str) -> None:
    """Add how requests are sent; ``url`` is the api's address where none is given."""
    group = parser.add_argument_group("how it is sent")
    group.add_argument(
        "--via",
        choices=("api", "amqp"),
        default="api",
        help="through the api (the default), or straight to RabbitMQ; "
        "the jobs' states are read from the api in either case",
    )
    group.add_argument("--url", default=url, help=f"the api's address (here {url})")
    group.add_argument(
        "--no-wait",
        action="store_true",
        help="ask for answers as soon as RabbitMQ has confirmed, without the decision",
    )
    group.add_argument(
        "--patience",
        type=float,
        default=DEFAULT_RETRY_TIMEOUT,
        metavar="SECONDS",
        help="how long a request that is not accepted is sent again "
        f"(default {DEFAULT_RETRY_TIMEOUT:g})",
    )
    group.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help="an accepted request without an end counts as lost after so long without new events "
        f"(default {DEFAULT_TIMEOUT:g})",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add what is shown and written."""
    group = parser.add_argument_group("what is shown")
    group.add_argument(
        "-q", "--quiet", action="store_true", help="print no lines for single requests"
    )
    group.add_argument(
        "--plain", action="store_true", help="print plain lines also where there is a terminal"
    )
    group.add_argument(
        "--json", type=Path, metavar="FILE", help="write the summary to this file as well"
    )
    group.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write a page with plots and every figure beside its floor into this folder, and the "
        "whole run as JSON; also after Ctrl-C",
    )


def check(options: argparse.Namespace) -> None:
    """Raise ``ConfigurationError`` for a value of these options that makes no sense."""
    for name in ("patience", "timeout"):
        if not getattr(options, name) >= 0:
            raise ConfigurationError(f"{name} must not be negative, got {getattr(options, name)}")
    check_folder(options.json, "--json")
    if options.report is not None:
        write.folder(options.report)
