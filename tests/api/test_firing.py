"""What Prometheus answers when it is asked which alerts fire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.firing import MAX_TEXT, Firing, MalformedAnswer, parse


def answer(*alerts: dict[str, Any]) -> bytes:
    """Return an answer as Prometheus writes it."""
    return json.dumps({"status": "success", "data": {"alerts": alerts}}).encode()


def alert(**more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return an alert as Prometheus writes it."""
    known = {
        "labels": {"alertname": "TargetDown", "job": "api", "severity": "warning", "x": "y"},
        "annotations": {"summary": "api is away", "description": "See its log.", "other": "z"},
        "state": "firing",
        "activeAt": "2026-11-29T20:00:00.123456789Z",
        "value": "1e+00",
    }
    return {**known, **more}


def test_firing_alerts_are_read_and_pending_ones_are_not() -> None:
    (found,) = parse(answer(alert(), alert(state="pending")))
    assert found == Firing(
        name="TargetDown",
        job="api",
        severity="warning",
        summary="api is away",
        description="See its log.",
        since=1795982400.123456,
        runbook=None,
    )


def test_alert_may_lack_everything_but_labels_and_state() -> None:
    assert parse(answer({"labels": {}, "state": "firing"})) == [
        Firing("", "", "", "", "", since=None, runbook=None)
    ]
    assert parse(answer()) == []


def test_alert_that_always_fires_is_none() -> None:
    assert parse(answer(alert(labels={"alertname": "Watchdog", "severity": "none"}))) == []


@pytest.mark.parametrize(
    ("text", "runbook"),
    [
        ("https://runbooks.example/a", "https://runbooks.example/a"),
        (" docs/runbook.md#a ", "docs/runbook.md#a"),
        ("a" * 5000, "a" * MAX_TEXT),
        ("", None),
    ],
)
def test_runbook_is_named_by_the_rule(text: str, runbook: str | None) -> None:
    (found,) = parse(answer(alert(annotations={"runbook_url": text})))
    assert found.runbook == runbook


@pytest.mark.parametrize("at", ["", "yesterday", "2026-11-29T20:00:00", "2026-13-01T00:00:00Z"])
def test_time_that_cannot_be_read_is_not_known(at: str) -> None:
    (found,) = parse(answer(alert(activeAt=at)))
    assert found.since is None


def test_long_texts_are_cut() -> None:
    (found,) = parse(answer(alert(annotations={"summary": "a" * 5000, "description": "b" * 5000})))
    assert (len(found.summary), len(found.description)) == (MAX_TEXT, MAX_TEXT)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"{}",
        b'{"status":"error","errorType":"x","error":"y"}',
        b'{"status":"success","data":{"alerts":null}}',
        b'{"status":"success","data":{"alerts":[{}]}}',
        b'{"status":"success","data":{"alerts":[{"labels":{"a":1},"state":"firing"}]}}',
        b'{"status":"success","data":{"alerts":[{"labels":{"a":"\\ud800"},"state":"firing"}]}}',
    ],
)
def test_other_answers_are_no_list_of_alerts(body: bytes) -> None:
    with pytest.raises(MalformedAnswer, match="is no list of alerts") as raised:
        parse(body)
    assert len(str(raised.value)) <= MAX_TEXT
