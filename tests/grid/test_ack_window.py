"""Which acknowledgements are due: no delivery twice, too early, or never."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.amqp.ack_window import AckWindow


class Channel:
    """RabbitMQ's end: what is outstanding, and its rule that nothing is acknowledged twice."""

    def __init__(self) -> None:
        self.outstanding: set[int] = set()
        self.acked: set[int] = set()
        self.frames = 0

    def take(self, acks: Sequence[tuple[int, bool]]) -> None:
        """Apply acknowledgements; an unknown tag would close the channel."""
        for tag, multiple in acks:
            assert tag in self.outstanding, f"PRECONDITION_FAILED - unknown delivery tag {tag}"
            meant = {each for each in self.outstanding if each <= tag} if multiple else {tag}
            self.outstanding -= meant
            self.acked |= meant
            self.frames += 1


@pytest.mark.parametrize(
    ("done", "acks"),
    [
        ([], []),
        ([1], [(1, True)]),
        ([1, 2, 3], [(3, True)]),
        ([3, 1, 2], [(3, True)]),
        ([1, 3], [(1, True)]),
        ([2, 3], []),
    ],
)
def test_ack_window_acknowledges_up_to_the_first_gap_at_once(
    done: list[int], acks: list[tuple[int, bool]]
) -> None:
    """One acknowledgement covers all done from the first on; deliveries behind a gap wait."""
    window = AckWindow()
    for tag in (1, 2, 3, 4):
        window.delivered(tag)
    for tag in done:
        window.done(tag)
    assert window.take() == acks


def test_ack_window_acknowledges_singly_behind_a_gap_that_stays() -> None:
    """A gap has one chance to close; then the deliveries behind it are acknowledged singly."""
    window = AckWindow()
    for tag in (1, 2, 3):
        window.delivered(tag)
    window.done(2)
    assert window.take() == []
    assert window.passed_over
    window.done(3)
    assert window.take() == [(2, False)]
    window.done(1)
    assert window.take() == [(3, True)]
    assert not window.passed_over
    assert window.take() == []


def test_ack_window_counts_a_requeued_delivery_as_no_gap() -> None:
    """RabbitMQ has it back, so one acknowledgement covers what is done before and behind it."""
    window = AckWindow()
    for tag in (1, 2, 3):
        window.delivered(tag)
    window.done(1)
    window.done(3)
    window.drop(2)
    assert window.take() == [(3, True)]
    assert len(window) == 0


STEP = st.sampled_from(["deliver", "deliver", "done", "done", "done", "requeue", "take", "take"])


@given(st.lists(STEP, max_size=150), st.data())
def test_ack_window_acknowledges_every_settled_delivery_once(
    steps: list[str], data: st.DataObject
) -> None:
    """In any order, all deliveries that are done are acknowledged once, and no others."""
    window, channel = AckWindow(), Channel()
    tag, undone, done = 0, set[int](), set[int]()
    for step in steps:
        if step == "deliver":
            tag += 1
            window.delivered(tag)
            channel.outstanding.add(tag)
            undone.add(tag)
        elif step == "done" and undone:
            tag_done = data.draw(st.sampled_from(sorted(undone)))
            undone.discard(tag_done)
            done.add(tag_done)
            window.done(tag_done)
        elif step == "requeue" and undone:
            requeued = data.draw(st.sampled_from(sorted(undone)))
            undone.discard(requeued)
            channel.outstanding.discard(requeued)
            window.drop(requeued)
        elif step == "take":
            channel.take(window.take())
            assert not channel.acked & undone
    channel.take(window.take())
    channel.take(window.take())
    assert channel.acked == done
    assert channel.outstanding == undone


@given(st.permutations(range(1, 41)))
def test_ack_window_has_nothing_outstanding_after_any_order(order: list[int]) -> None:
    """All that is done is acknowledged, in at most one frame a delivery."""
    window, channel = AckWindow(), Channel()
    for tag in range(1, 41):
        window.delivered(tag)
        channel.outstanding.add(tag)
    for tag in order:
        window.done(tag)
        channel.take(window.take())
    assert channel.acked == set(range(1, 41))
    assert channel.frames <= 40


def test_ack_window_memory_is_bounded_while_the_first_delivery_is_unsettled() -> None:
    """The window does not keep everything that came after a request which waits for hours."""
    window, channel = AckWindow(), Channel()
    window.delivered(1)
    channel.outstanding.add(1)
    for tag in range(2, 5_000):
        window.delivered(tag)
        channel.outstanding.add(tag)
        window.done(tag)
        channel.take(window.take())
        remembered = (getattr(window, name) for name in ("_open", "_done", "_passed_over"))
        assert sum(map(len, remembered)) <= 6
    window.done(1)
    channel.take(window.take())
    assert not channel.outstanding


def test_ack_window_does_not_count_what_is_settled_behind_a_gap_as_work() -> None:
    """It is not acknowledged yet, but the service has no more work with it."""
    window = AckWindow()
    for tag in (1, 2, 3):
        window.delivered(tag)
    window.done(2)
    assert (window.undone, len(window)) == (2, 3)
    assert window.take() == []
    window.done(1)
    assert (window.undone, window.take()) == (1, [(2, True)])
    assert (window.undone, len(window)) == (1, 1)
