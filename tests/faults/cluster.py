"""The whole system around three RabbitMQ nodes, for faults of one node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

from deploy.local.ports import HOST
from grid import topology
from tests.cluster import Cluster
from tests.faults.aside import Aside
from tests.faults.journal import Journal
from tests.faults.load import Load
from tests.faults.stage import ENVIRONMENT, Length, Stage
from tests.grid.gate import Gate
from tests.system import STANDBY, System

CLUSTER_FAULT: Final = "a cluster of three: the queue leader's node killed, then the next leader's"


@contextmanager
def cluster_stage(cluster: Cluster, folder: Path, length: Length) -> Iterator[Stage]:
    """Yield the running system: each service knows all three nodes, and begins with another."""
    vhost = cluster.vhost()
    with Aside() as aside:
        system = System(vhost, folder, environment=ENVIRONMENT, way=cluster.way)
        try:
            for name in [*system.services, STANDBY]:
                system.start(name)
            system.wait_ready()
            load = Load(f"http://{HOST}:{system.ports['api']}/charge", length.rate)
            journal = Journal(cluster.urls())
            aside.begin(journal.run())
            aside.begin(load.run())
            unused = Gate(vhost.url())
            chance = Random(0)  # noqa: S311  # nothing is left to it
            yield Stage(vhost, system, unused, aside, load, journal, {}, chance, length, folder)
        finally:
            system.close()


def kill_leaders(cluster: Cluster, stage: Stage) -> None:
    """Kill the node that leads ``charge.requests``, start it again, and do the same to the next.

    A node's fault counts from its death: service must be normal again without it.
    """
    for _ in range(stage.length.kills):
        leader = cluster.leader(topology.REQUESTS)
        cluster.nodes[leader].kill()
        stage.ended()
        cluster.nodes[leader].start()
        cluster.wait_whole(topology.REQUESTS)
        stage.wait(stage.length.broken)


def slowest(stage: Stage) -> float:
    """Return the longest time from sending a request that was accepted until it charged."""
    charging = stage.journal.histories.charging
    # unlike a session's end, its beginning may be missing in the event log
    known = [each for each in stage.answers(0) if each.job in charging]
    return max(charging[each.job] - each.sent for each in known)
