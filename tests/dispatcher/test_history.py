"""The memory of the jobs that were sent is bounded, and says where."""

from __future__ import annotations

from math import inf

from dispatcher.history import Sent


def test_where_a_job_was_sent_is_known_until_it_is_taken_back() -> None:
    """One that ended here was sent nowhere, which is not the same as not being known."""
    sent = Sent()
    assert not sent.has("j1")
    assert sent.where("j1") is None
    sent.note("j1", "s1", 5.0)
    sent.note("j2", "", 6.0)
    assert sent.has("j1")
    assert sent.has("j2")
    assert (sent.where("j1"), sent.where("j2")) == ("s1", "")
    sent.note("j1", "s2", 7.0)
    assert sent.where("j1") == "s2"
    assert (sent.since("j1"), sent.since("j3")) == (7.0, -inf)
    sent.forget("j1")
    sent.forget("j1")
    assert not sent.has("j1")


def test_the_oldest_are_forgotten_first() -> None:
    """A dispatcher that runs for years must not remember all it ever sent."""
    sent = Sent(most=3)
    for job in ("j1", "j2", "j3", "j4"):
        sent.note(job, "s1", 5.0)
    assert [job for job in ("j1", "j2", "j3", "j4") if sent.has(job)] == ["j2", "j3", "j4"]
