"""The highest delivery tag up to which everything is done. Pure."""

from __future__ import annotations


class LowWater:
    """Tags 1, 2, 3, …, each of which is done once ``parts`` of it are."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._left: dict[int, int] = {}
        self.done = 0

    def begin(self, tag: int) -> None:
        """Record a new tag."""
        self._left[tag] = self._parts

    def part_done(self, tag: int) -> None:
        """Record that a part of it is done."""
        self._left[tag] -= 1
        while self._left.get(self.done + 1) == 0:
            self.done += 1
            del self._left[self.done]
