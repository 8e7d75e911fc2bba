"""No job is lost: a steady load, one fault after another, and after each the account."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from grid.events import State
from tests.broker import Broker
from tests.faults.faults import FAULTS, GROUPS, Fault
from tests.faults.form import Form
from tests.faults.report import Row
from tests.faults.stage import CALM_SECONDS, Kind, Length, Stage, stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SHORT: Final = Length(rate=25, kills=1, pause=1, away=2, held=2, blocked=1, broken=2, page=0.3)
LONG: Final = Length(
    rate=200, kills=20, pause=1, away=30, held=60, blocked=15, broken=10, page=3, past=60
)


@dataclass(slots=True)
class Stages:
    """A system for one fault after another; a new one if the kind changes, or after a failure."""

    broker: Broker
    folder: Path
    form: Form
    _opened: ExitStack = field(default_factory=ExitStack)
    _at_work: tuple[Kind, Stage] | None = None
    late: int = 0  # vehicles charged twice that are in no line

    def of(self, kind: Kind) -> Stage:
        """Return the running system of this kind."""
        if self._at_work is None or self._at_work[0] is not kind:
            self.close()
            self.broker.start()
            folder = Path(tempfile.mkdtemp(prefix=f"{kind.name}-", dir=self.folder))
            vhost = self._opened.enter_context(self.broker.vhost())
            length, chance = self.form.length(SHORT, LONG), self.form.chance(kind.name)
            new = self._opened.enter_context(stage(vhost, folder, length, chance, kind))
            self._at_work = kind, new
        return self._at_work[1]

    def close(self) -> None:
        """End the system: the next fault begins with a new one."""
        if self._at_work is not None:
            self.late += self._at_work[1].late_duplicates
        self._opened.close()
        self._at_work = None


@pytest.fixture(scope="module")
def stages(
    broker_of_session: Broker, tmp_path_factory: pytest.TempPathFactory, form: Form
) -> Iterator[Stages]:
    """Yield the systems that the faults strike."""
    one = Stages(broker_of_session, tmp_path_factory.mktemp("faults"), form)
    try:
        yield one
    finally:
        one.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost(fault: Fault, stages: Stages, form: Form) -> None:
    """Whatever was answered 202 is completed, once, and service is normal again soon."""
    at_work = stages.of(fault.kind)
    try:
        row = _struck(fault, at_work)
    except BaseException:
        stages.close()
        raise
    form.rows.append(row)
    account = row.account
    assert not account.lost, f"lost: {[at_work.shown(job) for job in sorted(account.lost)[:5]]}"
    assert account.balanced
    assert account.ends == {State.COMPLETED: account.accepted}
    assert fault.twice or not account.duplicates, f"{account.duplicates} vehicles charged twice"
    assert row.recovered is not None, "service is not normal again"
    # the short form runs beside other tests, on any machine
    if form.is_long and fault.within is not None:
        assert row.recovered <= fault.within, f"service was normal after {row.recovered:.1f} s"


def _struck(fault: Fault, at_work: Stage) -> Row:
    at_work.recover()
    at_work.begin()
    at_work.wait(CALM_SECONDS)
    fault.strike(at_work)
    at_work.wait(CALM_SECONDS)
    return at_work.row(fault.name, at_work.account(), fault.within)


@pytest.mark.parametrize("group", GROUPS)
def test_no_vehicle_is_charged_twice_unseen(group: str, stages: Stages) -> None:
    """Vehicles charged again after the last account would be in no line of the table."""
    stages.close()
    assert stages.late == 0, f"unseen after {group}, or one before it"
