"""Fixtures that many tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.broker import Broker, VirtualHost
from tests.fake_broker import raise_violations

# a busy machine may take any time over one example; pytest's own limit ends what hangs
settings.register_profile("grid", deadline=None)
settings.load_profile("grid")


@pytest.fixture(autouse=True)
def _every_delivery_is_settled_once() -> Iterator[None]:
    """Fail a test in which a scripted RabbitMQ got a frame that breaks its rules."""
    yield
    raise_violations()


@pytest.fixture(scope="session")
def broker_of_session() -> Iterator[Broker]:
    """Run one real RabbitMQ node for the whole run; without rabbitmq-server the tests fail."""
    with tempfile.TemporaryDirectory(prefix="grid-broker-") as folder:
        broker = Broker(Path(folder))
        try:
            broker.start()
            yield broker
        finally:
            broker.close()


@pytest.fixture
def broker(broker_of_session: Broker) -> Broker:
    """Return the running node; start it again if the test before stopped or killed it."""
    broker_of_session.start()
    return broker_of_session


@pytest.fixture
def vhost(broker: Broker) -> Iterator[VirtualHost]:
    """Return a virtual host of its own, with the project's exchanges, queues and permissions."""
    with broker.vhost() as own:
        yield own
