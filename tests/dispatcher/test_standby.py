"""Which dispatcher is active, by the snapshots of others and by its own deliveries."""

from __future__ import annotations

import pytest

from dispatcher.standby import GIVEN_UP_SECONDS, SNAPSHOT_WITHIN_SECONDS, STAND_BY_SECONDS, Standby

pytestmark = pytest.mark.usefixtures("no_pauses")


def test_standby_is_dispatcher_that_hears_another_and_has_no_request() -> None:
    """RabbitMQ serves one dispatcher of several; a delivery ends a time on standby."""
    now = 0.0
    standby = Standby("this")
    assert not standby.is_standby(now)
    standby.heard("this", now)
    assert not standby.is_standby(now)
    standby.heard("other", now)
    assert standby.is_standby(now)
    assert standby.on_delivery()
    assert not standby.is_standby(now)
    assert not standby.on_delivery()
    standby.heard("other", now)
    now = STAND_BY_SECONDS
    assert not standby.is_standby(now), "the other one is gone"


def test_standby_holds_at_start_until_another_would_have_written() -> None:
    """For as long as an active dispatcher may be silent; a delivery of its own ends that."""
    now = 100.0
    standby = Standby("this")
    standby.heard_before("this", 0, now)
    standby.heard_before("other", 60, now)
    assert not standby.is_standby(now), "it would have spoken since"
    standby.heard_before("other", 2, now)
    assert standby.is_standby(now)
    now += SNAPSHOT_WITHIN_SECONDS - 2
    assert not standby.is_standby(now)
    standby.heard_before("other", -5, now)  # its clock is ahead
    assert standby.is_standby(now)
    assert standby.on_delivery()
    assert not standby.is_standby(now)


def test_standby_takes_another_for_active_before_its_first_request() -> None:
    """Snapshots are seconds apart: the other may have ended without one since this one's start."""
    standby = Standby("this")
    assert standby.on_delivery()
    assert not standby.on_delivery(), "what was sent since was sent from here"


def test_standby_is_undisputed_once_rabbitmq_has_given_up_any_other() -> None:
    """The last delivery went to this one, the other left, or has been silent for long."""
    now = 100.0
    standby = Standby("this")
    assert standby.is_undisputed(now), "nobody was ever heard"
    standby.heard_before("other", 5, now)
    assert not standby.is_undisputed(now)
    now += GIVEN_UP_SECONDS - 4
    assert standby.is_undisputed(now)
    standby.heard("other", now)
    assert not standby.is_undisputed(now)
    standby.on_delivery()
    assert standby.is_undisputed(now)
    standby.heard("other", now)
    assert not standby.is_undisputed(now)
    standby.heard("other", now, leaves=True)
    assert standby.is_undisputed(now)
    standby.end()
    assert not standby.is_undisputed(now)
