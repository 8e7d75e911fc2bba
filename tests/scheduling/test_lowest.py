"""The few lowest of many numbers are known without looking through all of them."""

from __future__ import annotations

from math import inf

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scheduling.lowest import Lowest

NUMBERS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.0, 2.0, inf])
COUNT = 3


def expected(values: list[float]) -> list[int]:
    """Return the places of the lowest, found by sorting all."""
    return sorted(range(len(values)), key=lambda place: (values[place], place))[:COUNT]


@given(
    st.lists(NUMBERS, max_size=80),
    st.lists(st.tuples(st.integers(0, 79), NUMBERS), max_size=200),
)
def test_lowest_follow_each_change(values: list[float], changes: list[tuple[int, float]]) -> None:
    """Whether few or many are kept, and whatever ties; some leave, and others come."""
    array = np.array(values, dtype=np.float64)
    lowest = Lowest(array, COUNT)
    assert lowest.places() == expected(values)
    for place, value in changes:
        if place < len(values):
            array[place] = values[place] = value
            lowest.update(place, value)
            assert lowest.places() == expected(values)


def test_lowest_keeps_few_when_all_numbers_are_equal() -> None:
    """So a table of substations begins, of which nothing is known yet."""
    array = np.full(1000, inf)
    lowest = Lowest(array, COUNT)
    for place in range(1000):
        array[place] = place % 7
        lowest.update(place, array[place])
    assert lowest.places() == [0, 7, 14]
    assert len(lowest._kept) <= 10 * COUNT  # noqa: SLF001
