"""What is known of one substation, and what follows from it. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil, exp, inf
from typing import Final, NamedTuple

from grid.events import Counts
from grid.messages import DEFAULT_POWER_KW
from scheduling import readings
from scheduling.health import Health
from scheduling.power_limits import LimitSteps

NO_READING: Final = "its load has not been read yet"
# without the events that must have come, the event log is taken as cut
EVENTS_STALE_SECONDS: Final = 1.0
AHEAD_PERIODS: Final = 3.0  # where it is cut: pages are late, and sessions may be short by chance


class Gauge(NamedTuple):
    """A gauge's value, and when the page was asked for that gave it.

    Where the page has a timestamp for it (``stamped``), it is that, if that is earlier.
    """

    value: float
    asked_at: float
    stamped: bool = False


@dataclass(slots=True)
class Depth:
    """How many jobs waited in a queue, between a count of what had left it and a time."""

    brought_before: float
    ready: float | None = None
    known_at: float = 0.0


class InFlight(deque[float]):
    """The powers of the jobs in flight in kW, the newest last, and their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def add(self, power_kw: float) -> None:
        """Add a job that is dispatched."""
        self.append(power_kw)
        self.total += power_kw

    def drop_oldest(self, count: int) -> None:
        """Remove jobs that have arrived: the first that were dispatched."""
        for _ in range(count):
            self._removed(self.popleft())

    def drop_newest(self) -> None:
        """Remove the job that was dispatched last, if there is one."""
        if self:
            self._removed(self.pop())

    def clear(self) -> None:
        """Remove all jobs."""
        super().clear()
        self.total = 0.0

    def _removed(self, power_kw: float) -> None:
        # what additions and subtractions have left of a rounding error ends here
        self.total = self.total - power_kw if self else 0.0


@dataclass(slots=True)
class SubstationState:
    """What is known of one substation; times are in the tracker's seconds, power in kW.

    ``in_file`` is how many connectors it has where its page does not say; ``in_flight_kw``
    are the powers of the jobs in flight.
    """

    substation: str
    in_file: float
    # another whenever more than its load and power may have changed
    revision: int = field(default=0, compare=False)
    gauges: dict[str, Gauge] = field(default_factory=dict)
    oldest: float = -inf  # when the oldest of the gauges was asked for
    problem: str | None = NO_READING  # why its page gives no load
    failing_since: float | None = None
    refusal: str | None = None  # why its queue takes no jobs
    consumers: int | None = None  # of its queue, when that was last looked at
    counts: Counts | None = None
    synced: bool = False
    depth: Depth | None = None
    dispatched: float = 0.0
    in_flight_kw: InFlight = field(default_factory=InFlight)
    sent_at: list[float] = field(default_factory=list)
    ready: float = 0.0  # in its queue, where it has no counters
    unmoved: tuple[float, float] = (0.0, 0.0)  # jobs dispatched and taken, while some are out
    unmoved_since: float = 0.0
    events_seen: float = 0.0  # how far the event log has told of its counters
    events_due: tuple[float, float] | None = None  # how far a page has, beyond that, and since when
    session_seconds: float | None = None
    expected: tuple[float, float] = (0.0, 0.0)  # its load by the last page and what was sent; when
    drained: bool = False  # by an operator
    limit: float | None = None  # sessions at most, by an operator
    power_limits: LimitSteps | None = None  # over time, by an operator
    health: Health = field(default_factory=Health)
    connectors: float = field(init=False)  # how many vehicles it can charge at once
    places: float = field(init=False)  # how many it may: an operator may have set a lower limit
    background_kw: float = field(init=False)  # what other consumers draw
    rated_power_kw: float | None = field(init=False)  # of its transformer, if its page says it

    def __post_init__(self) -> None:
        self.size()

    def size(self) -> None:
        """Work out its size anew, from what the page, the file and operators say."""
        self.connectors = self.gauge(readings.CONNECTORS) or self.in_file
        limit = inf if self.limit is None else self.limit
        self.places = min(self.connectors, limit)
        self.background_kw = self.gauge(readings.BACKGROUND_POWER) or 0.0
        self.rated_power_kw = self.gauge(readings.RATED_POWER)

    @property
    def capped(self) -> bool:
        """Return whether an operator allows fewer sessions than it has connectors."""
        return self.places < self.connectors

    def most_kw(self, clock: float) -> float | None:
        """Return what it may draw at a time in Unix seconds; None where nothing limits it."""
        if self.power_limits is None:
            return self.rated_power_kw
        limit_kw = self.power_limits.at(clock).kw
        if self.rated_power_kw is None:
            return None if limit_kw == inf else limit_kw
        return min(self.rated_power_kw, limit_kw)

    def gauge(self, name: str) -> float | None:
        """Return the last value of a gauge, or None where its page never had it."""
        found = self.gauges.get(name)
        return None if found is None else found.value

    @property
    def sessions(self) -> float:
        """Sessions in progress, as last reported."""
        return (self.gauge(readings.LOAD) or 0.0) if self.counts is None else self.counts.load

    @property
    def outstanding(self) -> float:
        """Jobs sent there that its sessions do not show yet."""
        if self.counts is None:
            return max(self.ready, float(len(self.sent_at)))
        return max(0.0, self.dispatched - self.counts.accepted - self.counts.dropped)

    @property
    def load(self) -> float:
        """Return sessions in progress and jobs in flight, as of now."""
        counts = self.counts
        if counts is None:
            return self.sessions + self.outstanding
        # the same sum written out: it is asked for at every event
        return counts.load + max(0.0, self.dispatched - counts.accepted - counts.dropped)

    @property
    def power_kw(self) -> float:
        """Return what sessions, jobs in flight and other consumers draw together, in kW."""
        unknown = self.outstanding - len(self.in_flight_kw)  # jobs in flight draw the usual power
        in_flight_kw = self.in_flight_kw.total + max(0.0, unknown) * DEFAULT_POWER_KW
        return self.background_kw + self._charging_kw() + in_flight_kw

    @property
    def asked_at(self) -> float:
        """Return when the load gauge was asked for; minus infinity if it never was."""
        found = self.gauges.get(readings.LOAD)
        return -inf if found is None else found.asked_at

    def age(self, now: float) -> float | None:
        """Return how long ago the load gauge was asked for, in seconds; None if it never was."""
        return None if self.asked_at == -inf else now - self.asked_at

    def events_stale(self, now: float) -> bool:
        """Return whether no events come of what happens there: then only its pages tell."""
        if self.counts is None:
            return True
        return self.events_due is not None and now - self.events_due[1] > EVENTS_STALE_SECONDS

    def expected_load(self, now: float) -> float:
        """Return the load that is to be expected, where only pages tell, since the last one came.

        Each session in progress ends with a rate of one in ``session_seconds``.
        """
        mean, places = self.session_seconds, self.places
        load, since = self.expected
        if mean is None or (rest := now - since) <= 0.0:
            return load
        full = min(rest, max(0.0, load - places) * mean / places)  # so long no place is free
        return (load - full * places / mean) * exp(-(rest - full) / mean)

    def ahead(self, period: float) -> float:
        """Return how many jobs may wait there where only pages tell, so that it is never idle.

        As many as it can complete in ``AHEAD_PERIODS`` of ``period`` seconds between two pages.
        """
        if not self.session_seconds:
            return self.places
        return ceil(self.places * AHEAD_PERIODS * period / self.session_seconds)

    def _charging_kw(self) -> float:
        """Return the power of the sessions: a session whose power nobody tells draws the usual."""
        if self.counts is not None and self.counts.power_kw is not None:
            return self.counts.power_kw
        reported_kw = self.gauge(readings.POWER)
        if reported_kw is None:
            return self.sessions * DEFAULT_POWER_KW
        begun = self.sessions - (self.gauge(readings.LOAD) or 0.0)  # since the page
        return reported_kw + max(0.0, begun) * DEFAULT_POWER_KW


def share_of(power_kw: float, rated_kw: float) -> float:
    """Return power ÷ rated power; a transformer that is built for nothing is always full."""
    return power_kw / rated_kw if rated_kw else inf


def taken_from_queue(counts: Counts) -> float:
    """Return how many jobs a substation has taken from its queue."""
    return counts.accepted + counts.dropped


def brought(counts: Counts) -> float:
    """Return how many jobs have left a substation's queue: those it has not begun count as well."""
    return taken_from_queue(counts) + counts.waiting


def progress(counts: Counts) -> float:
    """Return how far a run has come: its counters only grow, so the larger is the newer."""
    return counts.accepted + counts.completed + counts.dropped


def written(counts: Counts) -> float:
    """Return how many events of its sessions a run has written; of second copies there are none."""
    return counts.accepted + counts.completed
