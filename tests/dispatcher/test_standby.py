"""Which dispatcher is active, by the snapshots of others and by its own deliveries."""

from __future__ import annotations

import pytest

from dispatcher.standby import GIVEN_UP_SECONDS, SPOKEN_WITHIN_SECONDS, STAND_BY_SECONDS, Standby

pytestmark = pytest.mark.usefixtures("no_pauses")


def test_standby_is_dispatcher_that_hears_another_and_has_no_request() -> None:
    """RabbitMQ serves one dispatcher of several; a delivery ends a time on standby."""
    now = 0.0
    standby = Standby("this", lambda: now)
    assert not standby.is_standby
    standby.heard("this")
    assert not standby.is_standby
    standby.heard("other")
    assert standby.is_standby
    assert standby.on_delivery()
    assert not standby.is_standby
    assert not standby.on_delivery()
    standby.heard("other")
    now = STAND_BY_SECONDS
    assert not standby.is_standby, "the other one is gone"


def test_standby_holds_at_start_until_another_would_have_written() -> None:
    """For as long as an active dispatcher may be silent; a delivery of its own ends that."""
    now = 100.0
    standby = Standby("this", lambda: now)
    standby.heard_before("this", 0)
    standby.heard_before("other", 60)
    assert not standby.is_standby, "it would have spoken since"
    standby.heard_before("other", 2)
    assert standby.is_standby
    now += SPOKEN_WITHIN_SECONDS - 2
    assert not standby.is_standby
    standby.heard_before("other", -5)  # its clock is ahead
    assert standby.is_standby
    assert standby.on_delivery()
    assert not standby.is_standby


def test_standby_takes_another_for_active_before_its_first_request() -> None:
    """Snapshots are seconds apart: the other may have ended without one since this one's start."""
    standby = Standby("this", lambda: 0.0)
    assert standby.on_delivery()
    assert not standby.on_delivery(), "what was sent since was sent from here"


def test_standby_is_undisputed_once_rabbitmq_has_given_up_any_other() -> None:
    """The last delivery went to this one, the other left, or has been silent for long."""
    now = 100.0
    standby = Standby("this", lambda: now)
    assert standby.undisputed, "nobody was ever heard"
    standby.heard_before("other", 5)
    assert not standby.undisputed
    now += GIVEN_UP_SECONDS - 4
    assert standby.undisputed
    standby.heard("other")
    assert not standby.undisputed
    standby.on_delivery()
    assert standby.undisputed
    standby.heard("other")
    assert not standby.undisputed
    standby.heard("other", leaves=True)
    assert standby.undisputed
    standby.end()
    assert not standby.undisputed
