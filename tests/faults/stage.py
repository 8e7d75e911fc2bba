"""The whole system under a steady load, with everything in reach that a fault needs."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from deploy.local.ports import HOST
from grid.events import Event, State
from scheduling.health import MAX_EJECTED_SECONDS
from tests.broker import VirtualHost
from tests.faults import witness
from tests.faults.accounts import (
    ACCEPTED,
    UNAVAILABLE,
    Account,
    Answer,
    accepted,
    is_accepted,
    is_normal,
    recovery,
)
from tests.faults.aside import Aside
from tests.faults.clock import SteppedClock
from tests.faults.journal import Journal
from tests.faults.load import Load
from tests.faults.report import Row
from tests.grid.gate import Gate
from tests.operators import operated
from tests.system import DISPATCHERS, STANDBY, System

ENVIRONMENT: Final = {
    "CHARGE_SECONDS_MIN": "0.1",
    "CHARGE_SECONDS_MAX": "0.4",
    "GRACE_SECONDS": "5",
    "LOG_FORMAT": "json",
}
CALM_SECONDS: Final = 1.0  # of load before a fault, and after service is normal again
SETTLED_SECONDS: Final = 5.0  # after which the outcome of each request is known
TIMEOUT: Final = 60.0  # for service to be normal, and for every job to end
CLOCKED: Final = ("api", "dispatcher", "substation1")


class Kind(Enum):
    """What the services are started with; most faults need nothing special."""

    PLAIN = "plain"
    GATED = "every connection to the broker leads through a gate"
    CLOCKED = "some services see a clock that can be stepped"


@dataclass(frozen=True, slots=True)
class Length:
    """How long, and how often, a fault lasts in one form of the suite; times in seconds."""

    rate: float  # requests a second
    kills: int
    pause: float  # at most, between two kills
    away: float
    held: float
    blocked: float
    broken: float  # of a link to the broker
    page: float  # of each hostile page
    past: float = 0.0  # for a starting dispatcher to read a long event log, beside the load


@dataclass
class Stage:
    """What a fault may strike, and what is recorded of one fault after another."""

    vhost: VirtualHost
    system: System
    gate: Gate
    aside: Aside
    load: Load
    journal: Journal
    clocks: dict[str, SteppedClock]
    random: Random
    length: Length
    folder: Path
    recoveries: list[float | None] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)  # jobs accepted beside the load's
    record_lost_at: float | None = None  # when the event log was deleted, in Unix seconds
    _first_answer: int = 0
    _duplicates: int = 0  # that are in a line of the table
    _answers: int = 0

    def wait(self, seconds: float) -> None:
        """Let the load go on for a while."""
        time.sleep(seconds)

    def at_random(self) -> None:
        """Wait until a random moment."""
        time.sleep(self.random.uniform(0.2, 1.0) * self.length.pause)

    def note(self, figure: str) -> None:
        """Note something else that was measured, for the fault's line of the table."""
        self.figures.append(figure)

    def ask(self, **fields: object) -> None:
        """Send one more request until it is accepted; it counts like those of the load."""

        def accepted_now() -> bool:
            status, answer = self.system.post(fields, Prefer="respond-async")
            if status == ACCEPTED:
                self.asked.add(answer["id"])
            return status == ACCEPTED

        self.system.until(accepted_now, "a request is accepted")

    def values(self, service: str, metric: str) -> dict[str, float]:
        """Return a metric's value for each substation, from a service's page."""
        return {each.labels["substation"]: each.value for each in self.samples(service, metric)}

    def samples(self, service: str, metric: str) -> list[Sample]:
        """Return all samples of a metric from a service's page; none if it does not answer."""
        families = text_string_to_metric_families(self.system.get(service, "/metrics")[1] or "")
        return [each for family in families for each in family.samples if each.name == metric]

    def answers(self, since: float) -> list[Answer]:
        """Return the answers to what was sent since then."""
        return [each for each in self.load.answers[self._first_answer :] if each.sent >= since]

    def until_refused(self, seconds: float) -> float:
        """Wait until the api answers 503; return how long that took."""
        began = monotonic()
        self.system.until(
            lambda: any(each.status == UNAVAILABLE for each in self.answers(began)),
            "the api answers 503",
            seconds,
        )
        return monotonic() - began

    def ended(self) -> None:
        """Report the end of the fault, or of one of several; wait until service is normal."""
        self.recoveries.append(self.until_normal())

    def check_accepted(self, since: float, within: float) -> float:
        """Check that every request was answered 202 ``within`` seconds; return after how many.

        It looks for longer than that: what was sent just now may still turn out either way.
        """
        again = self._until_well(since, is_accepted, within + SETTLED_SECONDS)
        assert again is not None, "not all are answered 202 again"
        assert again <= within, f"all were answered 202 after {again:.1f} s"
        return again

    def until_normal(self, patience: float = TIMEOUT) -> float | None:
        """Wait until service is normal; return the seconds from now until then, None if it is not.

        It waits ``patience`` s at most.
        """
        is_well = partial(is_normal, charging=self.journal.histories.charging)
        return self._until_well(monotonic(), is_well, patience)

    def _until_well(
        self, since: float, is_well: Callable[[Answer], bool], patience: float
    ) -> float | None:
        """Wait until all goes well; ``patience`` and the result are seconds from ``since`` on."""
        while (back := self._recovered(since, is_well)) is None and monotonic() - since < patience:
            time.sleep(0.2)
        return back

    def _recovered(self, since: float, is_well: Callable[[Answer], bool]) -> float | None:
        sent = self.load.sent
        return recovery(
            sent[bisect_left(sent, since) :],
            self.answers(since),
            is_well,
            since=since,
            now=monotonic(),
        )

    def recover(self) -> None:
        """Wait until no substation is ejected any more because of the fault before."""

        def ejected() -> float:
            rows = (self.values(name, "dispatcher_substation_ejected") for name in DISPATCHERS)
            return sum(sum(each.values()) for each in rows)

        self.system.until(lambda: not ejected(), "no substation is ejected", MAX_EJECTED_SECONDS)

    def begin(self) -> None:
        """Begin the account of another fault."""
        self._first_answer += self._answers
        self._answers = 0
        self.recoveries.clear()
        self.figures.clear()
        self.asked.clear()
        self.record_lost_at = None

    def account(self) -> Account:
        """Wait until what was accepted since the beginning has ended, and return the account."""
        self._answers = len(self.load.answers) - self._first_answer
        histories, deadline = self.journal.histories, monotonic() + TIMEOUT
        jobs = accepted(self._answered()) | self.asked
        while histories.open(jobs) and monotonic() < deadline:
            time.sleep(0.1)
        if self.record_lost_at is not None:
            self._hear_witness(histories.open(jobs), self.record_lost_at)
        account = histories.account(jobs, self._duplicates)
        self._duplicates += account.duplicates
        return account

    def shown(self, job: str) -> object:
        """Return what the api says of a job."""
        return self.system.get("api", f"/charge/{job}")[1]

    @property
    def late_duplicates(self) -> int:
        """Return how many vehicles were charged twice since the last account."""
        return self.journal.histories.duplicates - self._duplicates

    def row(self, fault: str, account: Account, within: float | None) -> Row:
        """Return the line of the table, with the slowest of several recoveries."""
        assert self.recoveries, "the fault does not say when it has ended"
        seconds = [each for each in self.recoveries if each is not None]
        back = max(seconds) if len(seconds) == len(self.recoveries) else None
        refused = self._answers + len(self.asked) - account.accepted
        return Row(fault, account, refused, back, within, tuple(self.figures))

    def _hear_witness(self, jobs: set[str], until: float) -> None:
        """Count jobs as completed that substations logged before the event log was deleted.

        Events that RabbitMQ confirmed just before are deleted with the log, perhaps unread.
        """
        logs = (self.system.log(name) for name in self.system.substations)
        told = jobs & set().union(*(witness.charged(log, until) for log in logs))
        if told:
            self.note(f"of {len(told)} charged just before, the record went with it")
        for job in told:
            self.journal.histories.take(Event(State.COMPLETED, until, job), monotonic())

    def _answered(self) -> list[Answer]:
        """Return the answers of this fault's account; each answer belongs to one."""
        return self.load.answers[self._first_answer : self._first_answer + self._answers]


@contextmanager
def stage(
    vhost: VirtualHost, folder: Path, length: Length, random: Random, kind: Kind
) -> Iterator[Stage]:
    """Yield the running system: two dispatchers, three substations, the load, the journal.

    ``kind`` says what else is needed: connections that lead through a gate, or clocks that can be
    stepped.
    """
    gate = Gate(vhost.url())
    clocks = {
        name: SteppedClock(folder / f"{name}.clock") for name in CLOCKED if kind is Kind.CLOCKED
    }
    way: Callable[[str], str] = gate.through if kind is Kind.GATED else str
    special = {name: clock.environment() for name, clock in clocks.items()}
    with Aside() as aside:
        aside.do(gate.open())
        environment = {**ENVIRONMENT, **operated(folder)}
        programs = kind is Kind.CLOCKED  # the loader brings the clock
        system = System(
            vhost, folder, environment=environment, special=special, way=way, programs=programs
        )
        try:
            for name in [*system.services, STANDBY]:
                system.start(name)
            system.wait_ready()
            load = Load(f"http://{HOST}:{system.ports['api']}/charge", length.rate)
            journal = Journal([vhost.url()])
            aside.begin(journal.run())
            aside.begin(load.run())
            yield Stage(vhost, system, gate, aside, load, journal, clocks, random, length, folder)
        finally:
            aside.do(gate.close())
            system.close()
