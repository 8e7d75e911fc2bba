"""File descriptors: raising their limit, and recognising that none are left."""

from __future__ import annotations

import errno
import resource
import sys
from typing import Final, NamedTuple

# errors after which asyncio itself pauses accepting for a second, and then continues
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Descriptors(NamedTuple):
    """How many files and sockets this process may have open, ``before`` and after raising it."""

    before: int
    now: int


def raise_limit() -> Descriptors:
    """Raise the soft limit on open files to the hard one, which needs no privilege.

    Soft limits are low (1,024) for the sake of programs that use ``select``; none of ours does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # a system may say "unlimited" and still refuse it
        return Descriptors(_count(soft), _count(soft))
    return Descriptors(_count(soft), _count(hard))


def _count(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def is_exhausted(error: BaseException) -> bool:
    """Return whether an error says that there are no descriptors, or buffers, left for now."""
    return isinstance(error, OSError) and error.errno in _EXHAUSTED
