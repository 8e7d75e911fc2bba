"""The memory of the jobs that were sent is bounded, and says where."""

from __future__ import annotations

from math import inf

from dispatcher.job_index import JobIndex


def test_job_index_knows_where_job_was_sent_until_it_is_reclaimed() -> None:
    """A job that ended here was sent nowhere, which differs from an unknown job."""
    sent = JobIndex()
    assert not sent.has_sent("j1")
    assert sent.sent_from_here("j1") is None
    sent.note_sent("j1", "s1", 5.0)
    sent.note_sent("j2", "", 6.0)
    assert sent.has_sent("j1")
    assert sent.has_sent("j2")
    assert (sent.sent_from_here("j1"), sent.sent_from_here("j2")) == ("s1", "")
    sent.note_sent("j1", "s2", 7.0)
    assert sent.sent_from_here("j1") == "s2"
    assert (sent.sent_from_here_at("j1"), sent.sent_from_here_at("j3")) == (7.0, -inf)
    sent.forget_sent("j1")
    sent.forget_sent("j1")
    assert not sent.has_sent("j1")


def test_job_index_forgets_oldest_sent_job_first() -> None:
    """A dispatcher that runs for years must not remember all it ever sent."""
    sent = JobIndex(3)
    for job in ("j1", "j2", "j3", "j4"):
        sent.note_sent(job, "s1", 5.0)
    assert [job for job in ("j1", "j2", "j3", "j4") if sent.has_sent(job)] == ["j2", "j3", "j4"]
