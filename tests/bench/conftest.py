from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.node import RabbitMQ, rabbitmq
from tests.ports import free_ports

PROGRAMS = ("api", "api_start", "chains", "node", "project", "relay", "stand_ins", "substation")


@pytest.fixture(scope="package", autouse=True)
def claimed_ports() -> Iterator[None]:
    """Have what the benchmark starts listen on ports that no other test is given."""
    with pytest.MonkeyPatch.context() as patch:
        for each in PROGRAMS:
            patch.setattr(f"bench.{each}.free_ports", free_ports)
        yield


@pytest.fixture(scope="package")
def node(claimed_ports: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:  # noqa: ARG001
    """Run a node of the benchmark for all tests."""
    with rabbitmq(tmp_path_factory.mktemp("node") / "rabbitmq") as running:
        yield running
