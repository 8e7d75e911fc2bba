"""Fixtures that many tests share."""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings

from grid.runtime import YOUNG_OBJECTS
from tests import servers, workers
from tests.broker import ONE_SCHEDULER, Broker, VirtualHost, fast_folder
from tests.examples import examples
from tests.fake_broker import raise_violations

settings.register_profile("grid", examples())
settings.load_profile("grid")

GUARD: Final = servers.Guard()
sys.addaudithook(GUARD)


def pytest_sessionstart(session: pytest.Session) -> None:
    """In a worker, take part in compiling the tests."""
    if (worker := getattr(session.config, "workerinput", None)) is not None:
        config = session.config
        wanted = workers.wanted_paths(config.args, config.invocation_params.dir)
        workers.share_compilation(worker, wanted)


@pytest.hookimpl(tryfirst=True)  # before tests are selected by marker, and told to other workers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a server; in a worker, put first what takes longest."""
    servers.mark(items)
    if hasattr(config, "workerinput"):
        workers.order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> workers.Spread | None:  # noqa: ANN401
    """Return the scheduler for ``--dist loadscope``."""
    return workers.Spread(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_configure() -> None:
    """Look for cycles as seldom as a service does: that takes a tenth of the time of the tests."""
    gc.set_threshold(YOUNG_OBJECTS)


def pytest_collection_finish() -> None:
    """Leave what is there by now out of every garbage collection: it stays until the end."""
    _leave_to_the_end()


def _leave_to_the_end() -> None:
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let only marked tests, and the fixtures that they ask for, start a server."""
    GUARD.unmarked = None if servers.is_marked(item) else item.nodeid
    try:
        return (yield)
    finally:
        GUARD.unmarked = None


@pytest.fixture(autouse=True, scope="module")
def _files_leave_nothing_to_collect() -> Iterator[None]:
    """Leave what stays of a file out of later collections, of which some tests ask for many."""
    yield
    _leave_to_the_end()


@pytest.fixture(autouse=True)
def _every_delivery_is_settled_once() -> Iterator[None]:
    """Fail a test in which a scripted RabbitMQ got a frame that breaks its rules."""
    yield
    raise_violations()


@pytest.fixture(scope="session")
def broker_of_session() -> Iterator[Broker]:
    """Run one real RabbitMQ node for the whole run; without rabbitmq-server the tests fail."""
    with tempfile.TemporaryDirectory(prefix="grid-broker-", dir=fast_folder()) as folder:
        broker = Broker(Path(folder), arguments=ONE_SCHEDULER)
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
