"""What is read of the substations and of the event log, told to the core."""

from __future__ import annotations

import logging
from functools import partial

from dispatcher.inputs import EventsRead, Route, ScrapeFailed, ScrapeResult, TargetsChanged
from dispatcher.metrics import Metrics
from dispatcher.shell import Shell
from dispatcher.targets import Target
from grid import event_log
from grid.errors import MalformedMessage
from grid.event_log import Mark
from grid.isolation import Isolation
from scheduling.readings import Reading

log = logging.getLogger(__name__)


class SubstationWatch:
    """Receives targets, pages and messages of the event log.

    Args:
        shell: Is told of them.
        metrics: What is counted.
        isolation: Where unforeseen errors over a page go.
        mark: Written at the start: once it is read, all before it is.
    """

    def __init__(self, shell: Shell, metrics: Metrics, isolation: Isolation, mark: Mark) -> None:
        self._shell = shell
        self._metrics = metrics
        self._isolation = isolation
        self._mark = mark
        self.marks: set[Mark] = set()  # others that are looked for

    def on_targets(self, targets: dict[str, Target]) -> None:
        """Have exactly these substations."""
        self._metrics.targets.set(len(targets))
        log.info("substations: %s", ", ".join(sorted(targets)) or "none")
        self._shell.feed(TargetsChanged({name: each.connectors for name, each in targets.items()}))
        for name in targets:
            self._metrics.decisions.labels(name)  # so that its rate starts from 0, not from 1
            self._metrics.reclaimed.labels(name)

    def on_reading(self, substation: str, reading: Reading, asked_at: float) -> None:
        """Apply what a substation's page says."""
        with self._isolation.of(f"the page of {substation}", partial(self.on_failure, substation)):
            self._shell.feed(ScrapeResult(substation, reading, asked_at))
            self._metrics.scrapes.labels(substation, "ok").inc()
        self._shell.feed(Route())  # a waiting request may find capacity

    def on_failure(self, substation: str, problem: str) -> None:
        """Apply that a substation's page gives no load."""
        self._metrics.scrapes.labels(substation, "failed").inc()
        self._shell.feed(ScrapeFailed(substation, problem))

    def on_events(self, body: bytes, writer: str, position: int) -> None:
        """Apply the events of one message of the event log, as far as its writer is believed.

        ``position`` is the offset behind the message.
        """
        try:
            found = event_log.read(body, writer)
        except MalformedMessage as error:
            log.warning("passed over in the event log: %s", error)
            return
        for mark in (self._mark, *self.marks):
            for event in found:
                mark.see(event)
        self._shell.feed(EventsRead(found, position - 1, self._mark.passed.is_set()))
