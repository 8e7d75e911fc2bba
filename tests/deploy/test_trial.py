"""The request that is sent through before it is said that all of it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy import trial
from deploy.trial import Outcome, Trial
from tests.deploy.served import pages

FREE = {"id": "north", "state": "available", "limit": None, "load": 0.0, "connectors": 4.0}


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        """Return the seconds that have passed."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


class Api:
    """An api whose job is, each time somebody asks, in the next of its states."""

    def __init__(self, states: Iterator[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
        self.states, self.rows = states, rows
        self.requests: list[Any] = []
        self.refusals = 0

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Answer as the api does."""
        if path == "/substations":
            return 200, {"substations": self.rows}
        if method == "POST":
            if self.refusals:
                self.refusals -= 1
                return 503, {"title": "RabbitMQ is away"}
            self.requests.append(json.loads(body))
            return 202, {"id": "j1", "status": "queued"}
        state = next(self.states)
        return (200, {"id": "j1", **state}) if state else (404, {})


def tried(api: Api) -> tuple[Outcome, float]:
    """Return what becomes of a request there, and how long that takes."""
    clock = Clock()
    with pages(api.answer) as url:
        return Trial(url, None, clock.now, clock.sleep).run(), clock.seconds


def states(*found: tuple[int, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each state so many times, and the last for ever."""
    for times, state in found:
        for _ in range(times):
            yield state
    while True:
        yield found[-1][1]


QUEUED = {"status": "queued", "substation": None, "reason": None}
ASSIGNED = {"status": "assigned", "substation": "north", "reason": None}
CHARGING = {"status": "charging", "substation": "north", "reason": None}
COMPLETED = {"status": "completed", "substation": "north", "reason": None}


def test_trial_succeeds_with_a_completed_request() -> None:
    """It names itself, overtakes what waits, fits anywhere, and leaves no session behind."""
    api = Api(states((2, {}), (3, QUEUED), (2, CHARGING), (1, COMPLETED)), [FREE])
    outcome, _ = tried(api)
    assert outcome == Outcome()
    [request] = api.requests
    assert request["vehicle_id"] == "start-up check"
    assert request["priority"] == 9
    assert 0 < request["requested_power_kw"] < 1
    assert next(api.states) == COMPLETED


def test_trial_succeeds_with_a_long_session() -> None:
    """What charges for hours is not waited for until its end."""
    outcome, seconds = tried(Api(states((1, CHARGING)), [FREE]))
    assert outcome == Outcome()
    assert seconds <= trial.END_SECONDS + 1


@pytest.mark.parametrize(
    ("state", "name", "words"),
    [
        (QUEUED, "dispatcher", "j1 is queued, still, after 30 s"),
        (ASSIGNED, "north", "j1 is assigned, still"),
        ({**QUEUED, "status": "parked", "reason": "malformed"}, "dispatcher", "parked, malformed"),
    ],
)
def test_trial_failure_names_where_the_request_is(
    state: dict[str, Any], name: str, words: str
) -> None:
    """So that the log of the right service is shown."""
    outcome, seconds = tried(Api(states((1, state)), [FREE]))
    assert list(outcome.problems) == [name]
    assert words in outcome.problems[name]
    assert seconds <= trial.BEGIN_SECONDS + 1


def test_trial_accepts_waiting_where_every_substation_is_full() -> None:
    """A second `make up` under load finds a system that runs."""
    rows = [{**FREE, "load": 4.0}, {**FREE, "limit": 2, "load": 2.0}]
    outcome, _ = tried(Api(states((1, QUEUED)), rows))
    assert outcome == Outcome(remark=trial.FULL)


def test_trial_is_skipped_where_every_substation_is_drained() -> None:
    """The request would wait until an operator ends the drain."""
    api = Api(states((1, QUEUED)), [{**FREE, "state": "draining"}])
    outcome, _ = tried(api)
    assert outcome == Outcome(remark=trial.DRAINED)
    assert api.requests == []


def test_trial_retries_while_the_api_refuses() -> None:
    """One refusal is no reason to stop everything; constant refusal is."""
    api = Api(states((1, COMPLETED)), [FREE])
    api.refusals = 3
    assert tried(api)[0] == Outcome()
    api.refusals = 1000
    outcome, _ = tried(api)
    assert "503" in outcome.problems["api"]
    assert "RabbitMQ is away" in outcome.problems["api"]


@pytest.mark.parametrize("page", ["", "[]", "{", '{"substations": 1}'])
def test_trial_names_an_api_with_invalid_answers(page: str) -> None:
    """Another program may be listening there."""
    with pages(lambda *_: (200, page)) as url:
        assert "no request goes through" in Trial(url).run().problems["api"]
