"""Random bits from the system's generator, fetched many at once."""

from __future__ import annotations

import os
from uuid import UUID

import pytest

from grid.random_bits import RandomBits, new_uuid


class System:
    """The system's generator, which counts how often it is asked."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        """Return random bytes."""
        self.given.append(os.urandom(size))
        return self.given[-1]


@pytest.mark.parametrize("bits", [1, 7, 8, 64, 122, 128])
def test_random_bits_have_the_requested_length(bits: int) -> None:
    """Each bit is set now and then, and none beyond the length."""
    random = RandomBits()
    found = 0
    for _ in range(200):
        number = random(bits)
        assert 0 <= number < 1 << bits
        found |= number
    assert found == (1 << bits) - 1


def test_random_bits_use_each_system_random_byte_once() -> None:
    """So some of them reveal nothing about the others."""
    system = System()
    random = RandomBits(system)
    numbers = [random(128) for _ in range(256)]
    assert b"".join(each.to_bytes(16) for each in numbers) == system.given[0]
    assert len(system.given) == 1
    random(128)
    assert len(system.given) == 2


def test_random_bits_longer_than_the_buffer_are_complete() -> None:
    """A longer number is fetched in one piece."""
    system = System()
    assert RandomBits(system)(8 * 10_000) == int.from_bytes(system.given[0])


def test_random_uuid_is_written_as_python_writes_it() -> None:
    for bits in (0, 2**128 - 1, *(RandomBits()(128) for _ in range(100))):
        assert new_uuid(lambda _, bits=bits: bits) == str(UUID(int=bits, version=4))  # type: ignore[misc]
