"""The details of events: encoded as ever, and ignored if invalid."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid import events, kinds
from grid.errors import MalformedMessage
from grid.events import Event
from grid.kinds import Booking, Promise, Snapshot
from grid.messages import ChargeRequest
from tests.grid.strategies import THOROUGH, details, requests, substation_ids, times

ROWS: list[dict[str, Any]] = [{"substation": "s1", "load": 1.0}, {"substation": "s2"}]


def written(event: Event) -> bytes:
    """Return the bytes of an event."""
    return events.encode([event])


def read(event: Event) -> Event:
    """Return an event as it is read from the log."""
    (found,) = events.decode(written(event))
    return found


def test_event_kinds_have_the_bytes_of_earlier_versions() -> None:
    """Services of two versions may run at the same time, and readers rely on the bytes."""
    request = ChargeRequest("j1", 1.5, priority=3)
    assert written(kinds.queued(request)) == (
        b'{"kind":"queued","at":1.5,"job":"j1",'
        b'"detail":{"id":"j1","requested_at":1.5,"priority":3}}'
    )
    decision = {"policy": "least-loaded", "candidates": []}
    assert written(
        kinds.assigned("j1", 2.5, "s1", 2, requested_at=1.5, replays=4, decision=decision)
    ) == (
        b'{"kind":"assigned","at":2.5,"job":"j1","substation":"s1","attempt":2,"detail":'
        b'{"requested_at":1.5,"replays":4,"policy":"least-loaded","candidates":[]}}'
    )
    assert written(kinds.requeued("j1", 3.5, "s1", 7)) == (
        b'{"kind":"requeued","at":3.5,"job":"j1","substation":"s1","detail":{"read_to":7}}'
    )
    assert written(kinds.snapshot(4.5, "d1", [{"substation": "s1"}], {"s3", "s2"}, 9)) == (
        b'{"kind":"substations","at":4.5,"detail":{"dispatcher":"d1",'
        b'"substations":[{"substation":"s1"}],"former":["s2","s3"],"unsettled_from":9}}'
    )
    last = kinds.snapshot(4.5, "d1", [], (), 9, leaves=True)
    assert json.loads(written(last))["detail"]["leaves"] is True


@THOROUGH
@given(requests)
def test_request_record_is_read_as_it_was_written(request: ChargeRequest) -> None:
    """A lost request is published again from its record."""
    event = read(kinds.queued(request))
    assert kinds.request_in(event.detail) == request
    assert kinds.requested_at(event.detail) == request.requested_at


def test_request_record_without_a_request_is_told_from_a_wrong_one() -> None:
    """The record of a replay contains no request."""
    assert kinds.request_in({"replays": 1}) is None
    with pytest.raises(MalformedMessage):
        kinds.request_in({"id": "a b", "requested_at": 1})


def test_decision_record_is_read_as_it_was_written() -> None:
    """The api shows its explanation, and the time of a request that it did not accept itself."""
    decision = {"policy": "least-loaded", "candidates": [{"substation": "s1"}]}
    event = read(kinds.assigned("j1", 2, "s1", 1, requested_at=1.5, replays=0, decision=decision))
    assert kinds.requested_at(event.detail) == 1.5
    found = kinds.decision_in(event.detail)
    assert found is not None
    assert kinds.explanation(found) == decision
    assert kinds.decision_in({"replays": 2}) is kinds.decision_in({}) is None


def test_snapshot_record_is_read_as_it_was_written() -> None:
    """The next dispatcher and the api read it."""
    snapshot = Snapshot(read(kinds.snapshot(1, "d1", ROWS, ["s3"], 9)).detail)
    assert (snapshot.dispatcher, snapshot.leaves, snapshot.unsettled_from) == ("d1", False, 9)
    assert (snapshot.rows, snapshot.names, snapshot.former) == (ROWS, ["s1", "s2"], ["s3"])
    assert Snapshot(read(kinds.snapshot(1, "d1", [], (), 9, leaves=True)).detail).leaves


@THOROUGH
@given(requests, substation_ids, times, times)
def test_booking_is_read_as_it_was_written(
    request: ChargeRequest, substation: str, start: float, end: float
) -> None:
    """The job is sent by it, also if its message waits behind others, or after a restart."""
    booking = Booking(request, substation, start, max(start, end))
    event = read(kinds.booked(booking, 5.0, "s1 was drained"))
    assert kinds.booking_in(event) == booking
    promise = Promise(granted=True, substation=substation, start=start)
    assert kinds.promise_in(event) == promise
    assert (event.job, event.at, event.reason) == (request.id, 5.0, "s1 was drained")
    told = read(kinds.told(request.id, 5.0, promise, "s1 was drained"))
    assert (kinds.promise_in(told), told.reason) == (promise, "s1 was drained")
    assert kinds.booking_in(told) is None, "it has no request"


def test_refused_start_names_the_nearest_one_if_there_is_any() -> None:
    """It promises nothing, so it is no booking."""
    nearest = Booking(ChargeRequest("j1", 1.5), "s2", 9.0, 10.0)
    for found, promise in (
        (nearest, Promise(granted=False, substation="s2", start=9.0)),
        (None, Promise(granted=False, substation="", start=0.0)),
    ):
        event = read(kinds.refused("j1", 5.0, found))
        assert kinds.promise_in(event) == promise
        assert kinds.promise_in(read(kinds.told("j1", 5.0, promise))) == promise
        assert kinds.booking_in(event) is None


@pytest.mark.parametrize(
    ("substation", "change"),
    [
        ("s1", {"granted": 1}),
        ("s1", {"granted": None}),
        ("s1", {"start": "9"}),
        ("s1", {"start": -1}),
        ("s1", {"start": None}),
        ("a b", {}),
        ("", {}),
    ],
)
def test_promise_of_another_shape_is_ignored(substation: str, change: dict[str, Any]) -> None:
    """Any version may have written it, and every start reads it again."""
    detail = {"granted": True, "start": 9.0, "request": {"id": "j1", "requested_at": 1}} | change
    event = Event(events.BOOKED, 5.0, "j1", substation, detail=detail)
    assert kinds.promise_in(event) is None
    assert kinds.booking_in(event) is None


@pytest.mark.parametrize("request_", [None, 1, {}, {"id": "j2", "requested_at": 1}, {"id": "j1"}])
def test_booking_without_its_jobs_request_is_ignored(request_: object) -> None:
    """Nothing could be sent by it."""
    detail = {"granted": True, "start": 9.0, "request": request_}
    assert kinds.booking_in(Event(events.BOOKED, 5.0, "j1", "s1", detail=detail)) is None


@THOROUGH
@given(details, st.just("") | substation_ids)
def test_promise_of_any_detail_is_read_without_an_error(
    detail: dict[str, Any], substation: str
) -> None:
    event = Event(events.BOOKED, 5.0, "j1", substation, detail=detail)
    kinds.promise_in(event)
    kinds.booking_in(event)


@pytest.mark.parametrize(
    ("read", "name", "wrong"),
    [
        (kinds.requested_at, "requested_at", [True, "1", -1, 1e12, float("nan"), None, [1]]),
        (kinds.read_to, "read_to", [True, "1", 1.0, None, [1]]),
        (lambda detail: Snapshot(detail).unsettled_from, "unsettled_from", [True, -1, 1.0, "1"]),
        (lambda detail: Snapshot(detail).dispatcher, "dispatcher", [None, "", 1, ["d1"], {}]),
        (lambda detail: Snapshot(detail).leaves or None, "leaves", [1, "true", [True], {}]),
        (lambda detail: Snapshot(detail).rows, "substations", [None, {}, "s1", [*ROWS, 1], [{}]]),
        (lambda detail: Snapshot(detail).names or None, "substations", [{}, "s1", [{"a": 1}]]),
        (lambda detail: Snapshot(detail).former or None, "former", [{}, "s1", [1, "a b"]]),
    ],
)
def test_event_kinds_ignore_details_of_another_shape(
    read: Callable[[dict[str, Any]], object], name: str, wrong: list[object]
) -> None:
    """Any service may have written it, and every start reads it again."""
    for value in wrong:
        assert read({name: value}) is None
    assert read({}) is None


@THOROUGH
@given(details)
def test_event_kinds_read_any_detail_without_an_error(detail: dict[str, Any]) -> None:
    """Only the record of a request is refused because of its detail."""
    snapshot = Snapshot(detail)
    for name in ("dispatcher", "leaves", "unsettled_from", "rows", "names", "former"):
        getattr(snapshot, name)
    kinds.requested_at(detail)
    kinds.read_to(detail)
    kinds.decision_in(detail)
