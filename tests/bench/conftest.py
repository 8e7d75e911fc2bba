from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.node import RabbitMQ, rabbitmq


@pytest.fixture(scope="package")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """Run a node of the benchmark for all tests."""
    with rabbitmq(tmp_path_factory.mktemp("node") / "rabbitmq") as running:
        yield running
