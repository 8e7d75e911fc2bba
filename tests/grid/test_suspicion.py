"""Overdue answers: suspected in time, and a slow broker is not pressed ever harder."""

from __future__ import annotations

from grid.amqp.suspicion import (
    ANSWER_TIMEOUT,
    MAX_ANSWER_TIMEOUT,
    REFUSED_SECONDS,
    Refusals,
    Suspicion,
)

LATE = ANSWER_TIMEOUT
ONE, OTHER = ("exchange", "one"), ("exchange", "other")


def test_suspicion_rises_when_the_oldest_message_waits_for_the_timeout() -> None:
    """As soon as it has waited for the whole timeout, and not before."""
    suspicion = Suspicion()
    assert suspicion.look(7, 100, blocked=False) is None
    assert suspicion.look(7, 100 + LATE - 0.1, blocked=False) is None
    assert suspicion.look(7, 100 + LATE, blocked=False) == LATE


def test_suspicion_does_not_rise_while_answers_come() -> None:
    """However many wait: only the oldest counts, and that is another one each time."""
    suspicion = Suspicion()
    assert all(
        suspicion.look(number, number * (LATE - 1), blocked=False) is None
        for number in range(1, 100)
    )


def test_suspicion_does_not_rise_without_messages_in_flight() -> None:
    """The idle time does not count for the next message, even under the same number."""
    suspicion = Suspicion()
    suspicion.look(1, 0, blocked=False)
    assert suspicion.look(None, LATE, blocked=False) is None
    assert suspicion.look(1, 2 * LATE, blocked=False) is None


def test_suspicion_does_not_rise_under_a_resource_alarm() -> None:
    """RabbitMQ has said that it does not answer; afterwards it has the whole time again."""
    suspicion = Suspicion()
    suspicion.look(1, 0, blocked=False)
    assert suspicion.look(1, 100 * LATE, blocked=True) is None
    assert suspicion.look(1, 100 * LATE + 1, blocked=False) is None
    assert suspicion.look(1, 101 * LATE + 1, blocked=False) == LATE


def test_suspicion_starts_anew_with_a_new_connection() -> None:
    """Its first message has the number of another connection's first."""
    suspicion = Suspicion()
    suspicion.look(1, 0, blocked=False)
    suspicion.begin()
    assert suspicion.look(1, 10 * LATE, blocked=False) is None


def test_suspicion_timeout_doubles_until_answers_come() -> None:
    """A broker that is only slow gets the same messages again less and less often."""
    suspicion, now, waited = Suspicion(), 0.0, []
    for _ in range(6):
        suspicion.begin()
        suspicion.look(1, now, blocked=False)
        while (found := suspicion.look(1, now, blocked=False)) is None:
            now += 1
        waited.append(found)
    assert waited == [5, 10, 20, 40, MAX_ANSWER_TIMEOUT, MAX_ANSWER_TIMEOUT]
    suspicion.begin()
    suspicion.look(1, now, blocked=False)
    suspicion.look(2, now, blocked=False)
    assert suspicion.look(2, now + LATE, blocked=False) == LATE


def test_suspicion_rises_for_a_target_that_nacks_everything() -> None:
    """Not one that nacks now and then, nor because of another target's nacks."""
    refusals = Refusals()
    assert refusals.on_nack(ONE, 0) is None
    assert refusals.on_nack(OTHER, REFUSED_SECONDS) is None
    refusals.on_confirm(OTHER)
    assert refusals.on_nack(OTHER, 2 * REFUSED_SECONDS) is None
    assert refusals.on_nack(ONE, 2 * REFUSED_SECONDS) == 2 * REFUSED_SECONDS


def test_suspicion_of_a_full_queue_backs_off() -> None:
    """Until it accepts a message: then the timeout starts anew."""
    refusals, now, waited = Refusals(), 0.0, []
    for _ in range(8):
        refusals.begin()
        while (found := refusals.on_nack(ONE, now)) is None:
            now += 1
        waited.append(found)
    assert waited == [1, 2, 4, 8, 16, 32, MAX_ANSWER_TIMEOUT, MAX_ANSWER_TIMEOUT]
    refusals.on_confirm(ONE)
    refusals.on_nack(ONE, now)
    assert refusals.on_nack(ONE, now + REFUSED_SECONDS) == REFUSED_SECONDS
