"""Feeds the targets and their pages to the core."""

from __future__ import annotations

import logging
from functools import partial

from dispatcher.inputs import ScrapeFailed, ScrapeResult, TargetsChanged
from dispatcher.metrics import Metrics
from dispatcher.shell import Shell
from dispatcher.targets import Target
from grid.isolation import Isolation
from scheduling.readings import Reading

log = logging.getLogger(__name__)


class SubstationWatch:
    """Receives the targets, and their pages.

    Args:
        shell: Receives the inputs.
        metrics: The dispatcher's counters.
        isolation: Confines unforeseen errors to one page.
    """

    def __init__(self, shell: Shell, metrics: Metrics, isolation: Isolation) -> None:
        self._shell = shell
        self._metrics = metrics
        self._isolation = isolation

    def on_targets(self, targets: dict[str, Target]) -> None:
        """Apply the substations of the target file."""
        self._metrics.targets.set(len(targets))
        self._metrics.target_info.clear()
        log.info("substations: %s", ", ".join(sorted(targets)) or "none")
        connectors = {name: each.connectors for name, each in targets.items()}
        labels = {name: each.labels for name, each in targets.items()}
        self._shell.feed(TargetsChanged(connectors, labels))
        for name, each in targets.items():
            self._metrics.target_info.labels(name, each.address).set(1)
            self._metrics.decisions.labels(name)  # so that its rate starts from 0, not from 1
            self._metrics.reclaimed.labels(name)
            self._metrics.resent.labels(name)
            self._metrics.refused.labels(name)

    def on_reading(self, substation: str, reading: Reading, asked_at: float) -> None:
        """Apply the reading of a substation's page."""
        with self._isolation.of(f"the page of {substation}", partial(self.on_failure, substation)):
            self._shell.feed(ScrapeResult(substation, reading, asked_at))
            self._metrics.scrapes.labels(substation, "ok").inc()
        self._shell.route()  # there may be capacity for a waiting request

    def on_failure(self, substation: str, problem: str) -> None:
        """Apply that a substation's page could not be read."""
        self._metrics.scrapes.labels(substation, "failed").inc()
        self._shell.feed(ScrapeFailed(substation, problem))
