"""What clients have cancelled: read by every service, and remembered within bounds."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grid.cancellations import Cancellation, Cancellations, decode, encode
from grid.errors import MalformedMessage
from grid.messages import ChargeRequest
from tests.grid.strategies import THOROUGH, bodies

FIELDS = ["job", "at"]
cancellations = st.builds(
    Cancellation,
    job=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,9}", fullmatch=True),
    at=st.floats(0, 1e10),
)


@THOROUGH
@given(cancellations)
def test_cancellation_is_decoded_as_it_was_encoded(cancellation: Cancellation) -> None:
    """Any cancellation comes back as it was."""
    assert decode(encode(cancellation)) == cancellation


@THOROUGH
@given(bodies(FIELDS))
@example(b'{"job":"j1","at":1,"added_later":"\\ud800"}')
def test_cancellation_decode_any_bytes_or_raise_malformed_message(content: bytes) -> None:
    """Whatever lies in the stream, its reader gets a cancellation or ``MalformedMessage``."""
    try:
        found = decode(content)
    except MalformedMessage:
        return
    assert decode(encode(found)) == found


@pytest.mark.parametrize(
    "wrong",
    [{}, {"job": "j1"}, {"job": "a b", "at": 1}, {"job": "j1", "at": -1}, {"job": 1, "at": "1"}],
)
def test_cancellation_of_another_shape_is_refused(wrong: dict[str, object]) -> None:
    """The error says what it is, and what is wrong with it."""
    with pytest.raises(MalformedMessage, match="not a cancellation"):
        decode(json.dumps(wrong).encode())


def test_cancellation_holds_for_requests_made_before_it() -> None:
    """The same id may be requested anew; an older cancellation that comes late changes nothing."""
    known = Cancellations()
    known.add(Cancellation("j1", 10))
    known.add(Cancellation("j1", 5))
    assert known.apply_to(ChargeRequest("j1", 10))
    assert not known.apply_to(ChargeRequest("j1", 10.1))
    assert not known.apply_to(ChargeRequest("j2", 1))


def test_cancellations_forget_the_oldest_that_are_too_many() -> None:
    """One that comes again is new again."""
    known = Cancellations(most=2)
    for job in ("j1", "j2", "j1", "j3"):
        known.add(Cancellation(job, 10))
    assert len(known) == 2
    assert [known.apply_to(ChargeRequest(job, 1)) for job in ("j1", "j2", "j3")] == [
        True,
        False,
        True,
    ]
