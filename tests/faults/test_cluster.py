"""A cluster of three RabbitMQ nodes loses one, then another: nothing is lost, service goes on.

Three nodes and all else share the machine: one that has no room left does not catch up on what
waited, and needs ``FAULTS_RATE``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from grid.events import State
from tests.cluster import Cluster
from tests.faults.cluster import CLUSTER_FAULT, cluster_stage, kill_leaders, slowest
from tests.faults.form import Form
from tests.faults.stage import CALM_SECONDS, Length

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SHORT: Final = Length(rate=25, kills=1, pause=1, away=2, held=2, blocked=1, broken=2, page=0.3)
LONG: Final = Length(rate=200, kills=4, pause=1, away=3, held=3, blocked=2, broken=10, page=0.5)
WITHIN_SECONDS: Final = 15.0
MOST_TWICE: Final = 0.01


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run three nodes."""
    one = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        one.start()
        yield one
    finally:
        one.close()


def test_a_cluster_that_loses_a_node_loses_nothing(
    cluster: Cluster, tmp_path: Path, form: Form
) -> None:
    """Whatever was answered 202 is completed, and service is normal again without the node.

    The other dispatcher may take over before it can read the event log again, and send anew what
    the first has just sent: those few are charged twice, and counted. Service is back within 15 s
    where the machine has nothing else to do: that is the long form's part.
    """
    with cluster_stage(cluster, tmp_path, form.length(SHORT, LONG)) as stage:
        stage.begin()
        stage.wait(CALM_SECONDS)
        kill_leaders(cluster, stage)
        account = stage.account()
        longest = slowest(stage)
        stage.note(f"the slowest request charged after {longest:.1f} s")
        row = stage.row(CLUSTER_FAULT, account, WITHIN_SECONDS)
    form.rows.append(row)
    assert not account.lost, f"lost: {sorted(account.lost)[:5]} …"
    assert account.balanced
    assert account.ends == {State.COMPLETED: account.accepted}
    assert account.duplicates <= MOST_TWICE * account.accepted
    assert row.recovered is not None, "service is not normal again"
    if form.is_long:  # the short form runs beside other tests, on any machine
        assert longest <= WITHIN_SECONDS
        assert row.recovered <= WITHIN_SECONDS, f"service was normal after {row.recovered:.1f} s"
