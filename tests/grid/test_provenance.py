"""Whose events are believed: by the key that RabbitMQ lets their writer publish with."""

from __future__ import annotations

from typing import Final

import pytest

from deploy.rabbitmq.users import SERVICES, substation_user, writers
from grid import event_log, events, provenance, topology
from grid.errors import MalformedMessage
from grid.events import MARKER, SUBSTATIONS, Event, State
from grid.provenance import API, DISPATCHER, NOBODY_KNOWN, OPERATOR, believed, writer_of

ALL: Final = {*State, SUBSTATIONS, MARKER}
MAY: Final = {
    DISPATCHER: ALL,
    API: {State.QUEUED, State.CANCELLED, MARKER},
    OPERATOR: {State.QUEUED, State.CANCELLED},
    "substation.s1": {State.CHARGING, State.COMPLETED, State.EXPIRED, State.CANCELLED},
    NOBODY_KNOWN: ALL - {SUBSTATIONS},
    "load_test": set(),
    "admin": set(),
}


@pytest.mark.parametrize("writer", MAY)
def test_event_reader_accepts_from_each_writer_only_its_own_kinds(writer: str) -> None:
    """What is not its own is left out, and the rest of the message stays in its order."""
    found = [Event(kind, 1.0, "j", "s1") for kind in sorted(ALL)]
    expected = [each for each in found if each.kind in MAY[writer]]
    assert believed(found, writer) == expected


def test_event_reader_ignores_a_substation_writing_about_another() -> None:
    """An event that names no substation, or another one, is not that substation's."""
    own = Event(State.COMPLETED, 1.0, "j1", "s1")
    others = [Event(State.COMPLETED, 1.0, "j2", name) for name in ("s2", "", "s1.x")]
    assert believed([*others, own], "substation.s1") == [own]


def test_event_reader_drops_a_substations_detail() -> None:
    """By a detail, it could say that the job was replayed, which undoes what was before."""
    event = Event(State.COMPLETED, 1.0, "j1", "s1", detail={"replays": 1_000})
    assert believed([event], "substation.s1") == [Event(State.COMPLETED, 1.0, "j1", "s1")]


def test_event_reader_identifies_a_writer_only_through_the_events_exchange() -> None:
    """Through another exchange, a key is not checked: then nobody is known."""
    assert writer_of(topology.EVENTS_EXCHANGE, "dispatcher") == DISPATCHER
    for exchange in ("", topology.EVENTS, topology.SUBSTATIONS_EXCHANGE):
        assert writer_of(exchange, "dispatcher") == NOBODY_KNOWN


def test_rabbitmq_users_have_the_writer_names_that_readers_accept() -> None:
    """The names of users and writers are the same; only the administrator may use any key."""
    assert {DISPATCHER, API, OPERATOR} < SERVICES.keys()
    assert provenance.substation_writer("s1") == substation_user("s1")
    assert writers([*SERVICES, "substation.a.b"]) == {
        "api": "^api$",
        "dispatcher": "^dispatcher$",
        "load_test": "^load_test$",
        "parked": "^parked$",
        "substation.a.b": r"^substation\.a\.b$",
    }


def test_event_reader_logs_events_of_unauthorised_writers(caplog: pytest.LogCaptureFixture) -> None:
    """The unauthorised writer is named; a log of an earlier version is not reported."""
    body = events.encode([Event(SUBSTATIONS, 1.0), Event(State.CHARGING, 1.0, "j", "s1")])
    assert [each.kind for each in event_log.read(body, "substation.s1")] == [State.CHARGING]
    assert [each.kind for each in event_log.read(body, NOBODY_KNOWN)] == [State.CHARGING]
    (said,) = caplog.messages
    assert said.startswith("ignored 1 of 2 events that 'substation.s1' wrote to the event log")


def test_event_reader_bounds_the_content_of_one_message() -> None:
    """Events, names, reasons and counts of one message have a limit; a long reason is cut."""
    line = events.encode([Event(State.COMPLETED, 1.0, "j", "s1", reason="x" * 100_000)])
    (event,) = events.decode(line)
    assert event.reason == "x" * events.MAX_REASON
    short = events.encode([Event(State.QUEUED, 1.0, "j")])
    assert len(events.decode(b"\n".join([short] * events.MAX_EVENTS_READ))) == 1_000
    for body in (
        b"\n".join([short] * (events.MAX_EVENTS_READ + 1)),
        events.encode([Event(State.COMPLETED, 1.0, "j", "s" * 201)]),
        events.encode([Event(State.COMPLETED, 1.0, "j", "s1", attempt=-1)]),
        events.encode([Event(State.COMPLETED, 1.0, "j", "s1", attempt=10**10)]),
    ):
        with pytest.raises(MalformedMessage):
            events.decode(body)
