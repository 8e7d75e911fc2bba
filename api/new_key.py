"""``python -m api.new_key NAME SCOPE``: make a key, and its line for the key file of the api."""

from __future__ import annotations

import secrets
import sys
from hashlib import sha256

from api import auth
from grid.errors import ConfigurationError

USAGE = "usage: python -m api.new_key NAME client|operator"
KEY_BYTES = 32  # random: it cannot be guessed, so a fast hash protects it as well as a slow one


def main(arguments: list[str]) -> int:
    """Print the key on standard error, for its owner, and its line on standard output."""
    if len(arguments) != len(("NAME", "SCOPE")):
        print(USAGE, file=sys.stderr)  # noqa: T201
        return 2
    key = secrets.token_urlsafe(KEY_BYTES)
    line = f"{' '.join(arguments)} {sha256(key.encode()).hexdigest()}"
    try:
        auth.parse_keys(line)
    except ConfigurationError as error:
        print(f"{error}\n{USAGE}", file=sys.stderr)  # noqa: T201
        return 2
    print(f"the key, shown once: {key}", file=sys.stderr)  # noqa: T201
    print(line)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
