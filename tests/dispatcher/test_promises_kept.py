"""A promised start is kept, whatever else is asked for, as long as nothing breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.inputs import ControlChanged, OlderEventsRead
from dispatcher.open_jobs import OpenJobs
from grid import kinds, provenance
from grid.controls import Availability, Control, PowerBlock, PowerLimits
from grid.events import BOOKED, Counts, Event, State
from grid.messages import ChargeRequest
from scheduling.order import requirements
from scheduling.readings import Reading
from tests.dispatcher.harness import AT, Harness, confirming
from tests.examples import examples
from tests.fake_broker import turns

MEAN = 1800.0
HOUR = 3600.0


class Asked(NamedTuple):
    """A request: seconds since the one before; times are in hours, energy in kWh.

    ``early`` is which share of the time is left that its session was expected to take.
    """

    after: float
    hours: float | None
    power_kw: float
    starts_in: float | None
    departs_in: float | None
    reserve: bool
    early: float


class Site(NamedTuple):
    """A substation; one with ``dip`` is limited to so many kW from the second hour to the third."""

    connectors: int
    rated_kw: float | None
    dip: float | None


HOURS = st.sampled_from([0.1, 0.5, 1.0, 2.0, 5.0])
ASKED = st.builds(
    Asked,
    st.floats(0, HOUR / 2),
    st.none() | HOURS,
    st.sampled_from([7.4, 11.0, 22.0]),
    st.none() | st.floats(0, 4),
    st.none() | st.floats(0.2, 8),
    st.booleans(),
    st.just(1.0) | st.floats(0.1, 1.0),
)
SITES = st.lists(
    st.builds(
        Site,
        st.integers(1, 3),
        st.none() | st.just(30.0),
        st.none() | st.sampled_from([15.0, 25.0]),
    ),
    min_size=1,
    max_size=3,
)  # fmt: skip


class Station:
    """A substation that begins what it is sent at once, and reports each session."""

    def __init__(self, name: str, site: Site) -> None:
        self.name, self.site = name, site
        self.sessions: dict[str, tuple[float, float]] = {}  # when each ends, and its power
        self.accepted = 0

    @property
    def drawn_kw(self) -> float:
        """Return what its sessions draw."""
        return sum(kw for _, kw in self.sessions.values())

    @property
    def counts(self) -> Counts:
        """Return its counters."""
        load = len(self.sessions)
        return Counts(load, self.accepted, self.accepted - load, 0, 1.0, self.drawn_kw)

    def most_kw(self, at: float) -> float:
        """Return what it may draw."""
        rated_kw, dip = self.site.rated_kw or inf, self.site.dip
        dips = dip is not None and AT + HOUR <= at < AT + 2 * HOUR
        return min(rated_kw, dip) if dips and dip is not None else rated_kw


class World:
    """A dispatcher, its substations, and a clock; nothing breaks but the dispatcher."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self.stations = {f"s{n}": Station(f"s{n}", site) for n, site in enumerate(sites)}
        self.at = AT
        self.log: list[Event] = []
        self.jobs: dict[str, Asked] = {}
        self.started: dict[str, tuple[str, float]] = {}
        self.promised: dict[str, tuple[str, float]] = {}
        self.ended: set[str] = set()
        self._read = self._routed = 0  # events and jobs that the dispatcher of now has published
        self.harness = self._harness()

    async def ask(self, job: str, asked: Asked) -> None:
        """Let time pass, and have a request delivered."""
        await self.pass_time(self.at + asked.after)
        self.jobs[job] = asked
        self.harness.queue.bring(self._request(job).encode(), job)
        await self._settle()

    async def pass_time(self, to: float) -> None:
        """Have all happen that does until a time, each at its instant."""
        while (at := self._next_instant()) <= to:
            await self._at(at)
        await self._at(to)

    async def restart(self) -> None:
        """Have another dispatcher take over, which knows the log alone."""
        waiting = self.jobs.keys() - self.started.keys() - self.ended
        self.harness = self._harness()
        for job in sorted(waiting):
            self.harness.queue.bring(self._request(job).encode(), job, again=True)
        await self._settle()

    def _next_instant(self) -> float:
        ends = [end for each in self.stations.values() for end, _ in each.sessions.values()]
        starts = [at for job, (_, at) in self.promised.items() if job not in self.started]
        return min([*ends, *starts, self.at + HOUR])

    async def _at(self, at: float) -> None:
        self.at = max(self.at, at)
        for station in self.stations.values():
            for job, (end, _) in list(station.sessions.items()):
                if end <= self.at:
                    del station.sessions[job]
                    self._report(station, Event(State.COMPLETED, self.at, job, station.name))
        await self._settle()

    async def _settle(self) -> None:
        """Have the dispatcher act, the substations follow, and all of it be read."""
        self.harness.now += self.at - self.harness.at
        self.harness.at = self.at
        for _ in range(3):
            self.harness.shell.tick()
            await turns()
            self._read_what_was_written()
            self._begin_sessions()
        for station in self.stations.values():
            assert len(station.sessions) <= station.site.connectors
            assert station.drawn_kw <= station.most_kw(self.at) + 1e-6
        for job, (_, start) in self.promised.items():
            assert job in self.started or start > self.at, f"{job} did not begin at {start - AT}"

    def _read_what_was_written(self) -> None:
        publisher = self.harness.publisher
        written = publisher.events()[self._read :]
        self._read += len(written)
        for each in written:
            if each.kind == BOOKED and (booking := kinds.booking_in(each)) is not None:
                found = booking.substation, booking.start  # it is written again after hours
                assert self.promised.setdefault(each.job, found) == found
            if each.kind == State.EXPIRED:
                self.ended.add(each.job)
        self.log += written
        self.harness.read_events(*written)

    def _begin_sessions(self) -> None:
        routed = self.harness.publisher.routed()
        for job, name in routed[self._routed :]:
            assert job not in self.started, f"{job} is sent twice"
            station, asked = self.stations[name], self.jobs[job]
            self.started[job] = name, self.at
            if job in self.promised:
                assert self.promised[job] == (name, self.at)
            needs = requirements(self._request(job))
            planned = needs.seconds or MEAN
            station.sessions[job] = self.at + planned * asked.early, needs.power_kw
            station.accepted += 1
            begun = Event(State.CHARGING, self.at, job, name, ends_at=self.at + planned)
            self._report(station, begun)
        self._routed = len(routed)

    def _report(self, station: Station, event: Event) -> None:
        event = Event(
            event.kind, event.at, event.job, event.substation,
            counts=station.counts, ends_at=event.ends_at,
        )  # fmt: skip
        self.log.append(event)
        self.harness.read_events(event, writer=provenance.substation_writer(station.name))

    def _request(self, job: str) -> ChargeRequest:
        asked = self.jobs[job]
        number = int(job[1:])
        requested_at = AT + sum(each.after for each in list(self.jobs.values())[: number + 1])
        return ChargeRequest(
            job,
            requested_at,
            requested_energy_kwh=None if asked.hours is None else asked.hours * asked.power_kw,
            requested_power_kw=asked.power_kw,
            departure_time=_in(asked.departs_in, requested_at),
            earliest_start=_in(asked.starts_in, requested_at),
            reserve=asked.reserve,
        )

    def _harness(self) -> Harness:
        harness = Harness(confirming(), *self.stations, connectors=1)
        self._read = self._routed = 0
        harness.now, harness.at = harness.now + self.at - AT, self.at
        earlier = OpenJobs(complete=True)
        for offset, event in enumerate(self.log):
            earlier.take(event, offset)
        for station in self.stations.values():
            self._make_known(harness, station)
        harness.shell.feed(OlderEventsRead(earlier))
        return harness

    def _make_known(self, harness: Harness, station: Station) -> None:
        harness.tracker.report(station.name, station.counts)
        harness.tracker.ask_depth(station.name)
        harness.tracker.depth(station.name, 0, harness.now)
        page = Reading(
            station.counts.load,
            connectors=station.site.connectors,
            power_kw=station.counts.power_kw,
            rated_power_kw=station.site.rated_kw,
            counts=station.counts,
            session_seconds=MEAN,
        )
        harness.watch.on_reading(station.name, page, harness.now)
        if station.site.dip is not None:
            block = PowerBlock(AT + HOUR, AT + 2 * HOUR, station.site.dip)
            limits = PowerLimits((block,), "dso", AT)
            control = Control(station.name, Availability.AVAILABLE, None, 1, limits)
            harness.shell.feed(ControlChanged(station.name, control))


def _in(hours: float | None, at: float) -> float | None:
    return None if hours is None else at + hours * HOUR


@pytest.mark.usefixtures("no_pauses")
@examples(300)
@given(SITES, st.lists(ASKED, min_size=1, max_size=14), st.sets(st.integers(0, 13), max_size=2))
def test_promised_start_is_kept_when_nothing_breaks(
    sites: list[Site], asked: list[Asked], restarts: set[int]
) -> None:
    """At its instant, at its substation; with sessions of known and of unknown length.

    Connectors, ratings and limits to come are kept as well. Dispatchers may be restarted.
    """

    async def run() -> None:
        world = World(sites)
        for number, each in enumerate(asked):
            await world.ask(f"j{number}", each)
            if number in restarts:
                await world.restart()
        await world.pass_time(world.at + 30 * HOUR)
        assert world.promised.keys() <= world.started.keys()

    asyncio.run(run())
