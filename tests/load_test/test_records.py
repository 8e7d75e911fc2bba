"""A job as it is read from the api's answer."""

from __future__ import annotations

from typing import Any

import pytest

from load_test import records

LATER = "1970-01-01T00:01:40Z"
LATEST = "1970-01-01T00:02:00Z"


@pytest.mark.parametrize(
    ("fields", "since"),
    [
        ({}, 10),
        ({"request": {"earliest_start": LATER}}, 100),
        ({"request": {"earliest_start": "1970-01-01T00:00:05Z"}}, 10),
        ({"reservation": {"granted": True, "start": LATEST}}, 120),
        ({"reservation": {"granted": False, "start": LATEST}}, 10),
        ({"request": {"earliest_start": LATER}, "reservation": None}, 100),
        (
            {
                "request": {"earliest_start": LATER},
                "times": {"queued": "1970-01-01T00:00:10Z", "expired": "1970-01-01T00:00:11Z"},
            },
            10,
        ),
    ],
)
def test_record_of_a_job_waits_from_when_it_may_begin(fields: dict[str, Any], since: float) -> None:
    """The time before is no wait, and not the dispatcher's; one that ended before has no other."""
    value = {
        "id": "j1",
        "status": "queued",
        "substation": None,
        "times": {"queued": "1970-01-01T00:00:10Z"},
        "duplicates": 0,
        "request": {"max_wait_seconds": 5},
    }
    found = records.job(value | fields)
    assert found.queued == since
    assert records.job(value | {"request": {"max_wait_seconds": 5}}).expires_at == 15
