"""Random bits that nobody can predict, fetched from the system many at once, and ids of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

_AT_ONCE: Final = 4096  # bytes: a system call for some 200 requests
_VERSION_4: Final = 4 << 76 | 0b10 << 62  # of a UUID (RFC 9562, 5.4): its version and variant,
_RANDOM: Final = ~(0xF << 76 | 0b11 << 62)  # and all other bits


def new_uuid(chance: Callable[[int], int]) -> str:
    """Return a random UUID, as ``uuid.UUID`` writes it, in a third of the time."""
    text = f"{chance(128) & _RANDOM | _VERSION_4:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class RandomBits:
    """A source of random bits, called like ``random.getrandbits``, from the system's generator.

    A generator that the system only seeds, such as ``random.Random``, can be predicted by whoever
    sees enough of its output. A substation sees the ids of some jobs, and must not learn those of
    the others from them.
    """

    def __init__(self, read: Callable[[int], bytes] = os.urandom) -> None:
        self._read = read
        self._bytes = b""
        self._at = 0

    def __call__(self, bits: int) -> int:
        """Return a number of so many bits; each byte of the system's is used once."""
        size = -(-bits // 8)
        if self._at + size > len(self._bytes):
            self._bytes, self._at = self._read(max(_AT_ONCE, size)), 0
        chosen = self._bytes[self._at : self._at + size]
        self._at += size
        return int.from_bytes(chosen) >> (8 * size - bits)
