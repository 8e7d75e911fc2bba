"""Fixtures of the tests of what all services share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _links_come_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests break links as soon as they are up."""
    monkeypatch.setattr("grid.amqp.link.LIFE_LEAST_SECONDS", 0.05)
