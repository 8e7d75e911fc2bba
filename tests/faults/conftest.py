"""The table that the tests of all faults fill together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.cluster import CLUSTER_FAULT
from tests.faults.faults import CANCELLATION_FAULT, FAULTS
from tests.faults.form import Form
from tests.faults.report import table, with_table

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
EVERY: Final = (*(fault.name for fault in FAULTS), CANCELLATION_FAULT, CLUSTER_FAULT)


@pytest.fixture(scope="session")
def form() -> Iterator[Form]:
    """Yield the form that was asked for; print the table at the end, and keep it if complete."""
    one = Form.asked_for(os.environ)
    yield one
    content = table(sorted(one.rows, key=lambda row: EVERY.index(row.fault)))
    print(f"\nFAULTS_SEED={one.seed}\n{content}")  # noqa: T201
    if one.is_long and {row.fault for row in one.rows} == set(EVERY):
        DOCUMENT.write_text(with_table(DOCUMENT.read_text(), content))
