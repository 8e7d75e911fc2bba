"""``python -m tests.fuzz.wrong``: as ``fuzz.one``, on a reader that is wrong for some inputs."""

from __future__ import annotations

import sys

from fuzz import one
from fuzz.readers import READERS


def wrong(data: bytes) -> object:
    """Read a request, and fail over some as no reader may."""
    if len(data) > 10 and data[5] % 16 == 0:
        raise KeyError("not foreseen")
    return READERS["requests"].read(data)


if __name__ == "__main__":
    one.run(sys.argv[1], READERS["requests"]._replace(read=wrong), sys.argv[2:])
