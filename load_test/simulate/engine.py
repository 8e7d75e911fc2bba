"""The simulation: substations in virtual time, driven by the dispatcher's own scheduler.

Pure. The events are a heap ordered by time, and jobs are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Any, Final

from grid.controls import Control
from grid.events import Counts
from grid.messages import DEFAULT_POWER_KW
from load_test.simulate.judge import Judge
from load_test.simulate.scenario import Setting, Site, Trace
from load_test.simulate.substation import Substation
from scheduling.candidates import CandidateTable
from scheduling.connectors import free_at
from scheduling.load_tracker import LoadTracker
from scheduling.order import DeadlineOrder, Order, Requirements
from scheduling.policies import Policy
from scheduling.readings import Reading
from scheduling.scheduler import Scheduler
from scheduling.wait_queue import WaitQueue

if TYPE_CHECKING:
    from random import Random

_UNREADABLE: Final = "no answer"
_ENDLESS: Final = 1e9  # this many times the places, if nothing waits centrally

# kinds of events, in their order at one instant
_DONE, _FALL, _RISE, _EVENT, _ASK, _PAGE, _QUEUED, _LEAVE = range(8)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run: each job's wait from arrival to the last start of its session, in s.

    ``misroutes`` are jobs sent to a substation when another had less load in truth; ``spread`` is
    the largest difference of loads when a job was sent, in sessions of a mean size; ``restarts``
    are the sessions that an outage interrupted. ``sent`` is when each job was assigned, to the
    substation of that number in ``stations``; ``starts`` when its session began and ``ends`` when
    it ended, None where its vehicle had left by then: then it has waited until it left.
    """

    waits: list[float]
    misroutes: int
    spread: float
    restarts: int
    sent: list[float | None]
    stations: list[int | None]
    starts: list[float | None]
    ends: list[float | None]


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    job: int
    requirements: Requirements


class Simulation:
    """One run of one policy over one trace.

    ``needs`` are the requirements of each job, where they differ: its session ends when its vehicle
    leaves, at the latest. ``sites`` are the substations, where they are copies of real ones: then
    the setting's connectors are theirs. ``order`` is that of the waiting jobs; the dispatcher's by
    default. ``charge_speed`` is how many seconds of charging pass in one.
    """

    def __init__(
        self,
        setting: Setting,
        trace: Trace,
        policy: Policy,
        random: Random,
        *,
        needs: Sequence[Requirements] | None = None,
        sites: Sequence[Site] | None = None,
        order: Order | None = None,
        charge_speed: float = 1.0,
    ) -> None:
        self._setting = setting
        self._arrivals, self._durations = trace
        self._needs = needs
        self._random = random
        self._sites = sites
        if sites is None:
            self._stations = [
                Substation(f"substation{number}", connectors)
                for number, connectors in enumerate(setting.connectors, 1)
            ]
        else:
            self._stations = [Substation(s.name, s.connectors, power_kw=0.0) for s in sites]
        self._numbers = {each.name: number for number, each in enumerate(self._stations)}
        self._tracker = LoadTracker(stale_after=inf, default_connectors=1)
        self._places = 1.0 if setting.waits else _ENDLESS
        self._tracker.keep({each.name: each.connectors * self._places for each in self._stations})
        self._states = list(self._tracker.substations.values())
        for site in sites or ():
            self._tracker.control(site.name, Control(site.name, limit=site.limit))
        self._scheduler: Scheduler[_Request] = Scheduler(
            CandidateTable(self._tracker, setting.period, slow_start=2 * setting.period),
            policy,
            random,
            send_ahead=setting.send_ahead,
            explain=False,
        )
        self._now = 0.0
        self._heap: list[tuple[float, int, int, Any]] = []
        self._handlers = (
            self._done, self._fall, self._rise, self._event, self._ask, self._page, self._queued,
            self._leave,
        )  # fmt: skip
        self._wait_queue: WaitQueue[_Request] = WaitQueue(
            order or DeadlineOrder(), charge_speed=charge_speed
        )
        self._open = len(self._arrivals)
        self._judge = Judge(self._stations)
        self._waits = [0.0] * self._open
        self._sent: list[float | None] = [None] * self._open
        self._at: list[int | None] = [None] * self._open
        self._starts: list[float | None] = [None] * self._open
        self._ends: list[float | None] = [None] * self._open
        self._restarts = 0

    def run(self) -> Outcome:
        """Run it until every job is completed."""
        self._begin()
        for job, arrival in enumerate(self._arrivals):
            known_at = arrival + self._setting.request_latency
            self._until(known_at)
            self._now = known_at
            requirements = self._requirements(job)
            self._wait_queue.add(_Request(job, requirements))
            if (expires_at := requirements.expires_at) < inf:
                heappush(self._heap, (expires_at, _LEAVE, 0, None))
            self._route()
        while self._open:
            self._until(self._heap[0][0])
        return Outcome(
            self._waits,
            self._judge.misroutes,
            self._judge.spread,
            self._restarts,
            self._sent,
            self._at,
            self._starts,
            self._ends,
        )

    def _requirements(self, job: int) -> Requirements:
        if self._needs is not None:
            return self._needs[job]
        return Requirements((0.0, inf, self._arrivals[job], ""), (), DEFAULT_POWER_KW, inf)

    def _begin(self) -> None:
        for number in range(len(self._stations)):
            self._page(number, (self._reading(number), 0.0))
            phase = self._random.random()  # drawn in any case: later draws stay the same
            if self._setting.in_step:
                phase = 0.0
            if period := self._setting.period:
                heappush(self._heap, (phase * period, _ASK, number, None))
        for outage in self._setting.outages:
            heappush(self._heap, (outage.at, _FALL, outage.substation, None))
            heappush(self._heap, (outage.back, _RISE, outage.substation, None))

    def _until(self, time: float) -> None:
        heap, handlers = self._heap, self._handlers
        while heap and heap[0][0] <= time:
            self._now, kind, number, detail = heappop(heap)
            handlers[kind](number, detail)

    # the dispatcher

    def _route(self) -> None:
        """Send what waits, as long as there is room."""
        if not len(self._wait_queue):
            return
        for expired in self._wait_queue.pop_expired(self._now):
            self._expire(expired.job)
        if self._wait_queue.is_due(self._now):
            ends = {each.name: list(each.charging.values()) for each in self._stations}
            count = len(self._wait_queue)
            free = free_at(self._tracker, ends, count, now=self._now, clock=self._now)
            self._wait_queue.arrange(free, self._now)
        reached: set[int] = set()
        for assignment in self._scheduler.schedule(self._wait_queue, self._now):
            number = self._numbers[assignment.substation]
            job = assignment.job.job
            self._judge.sent(self._stations[number])
            self._sent[job], self._at[job] = self._now, number
            if latency := self._setting.dispatch_latency:
                heappush(self._heap, (self._now + latency, _QUEUED, number, job))
            else:
                self._queued(number, job)
            reached.add(number)
        if not self._setting.period:
            for number in sorted(reached):
                self._read(number)

    def _read(self, number: int) -> None:
        self._page(number, (self._reading(number), self._now))

    def _reading(self, number: int) -> Reading | None:
        station = self._stations[number]
        if station.down:
            return None
        places = station.connectors * self._places
        if not self._setting.counters:
            return Reading(station.in_hand, places)
        site = None if self._sites is None else self._sites[number]
        rated = DEFAULT_POWER_KW * places if self._setting.power else None
        return Reading(
            len(station.charging),
            places,
            power_kw=station.power_kw,
            rated_power_kw=rated if site is None else site.rated_power_kw,
            background_power_kw=None if site is None else site.background_power_kw,
            counts=station.counts(),
            # a job that is sent at once is not held back by an expected session time
            session_seconds=station.mean_session if self._setting.waits else None,
        )

    # the dispatcher's inputs

    def _ask(self, number: int, _: None) -> None:
        page = (self._reading(number), self._now)
        if self._setting.page_latency:
            heappush(self._heap, (self._now + self._setting.page_latency, _PAGE, number, page))
        else:
            self._page(number, page)
        heappush(self._heap, (self._now + self._setting.period, _ASK, number, None))

    def _page(self, number: int, page: tuple[Reading | None, float]) -> None:
        reading, asked_at = page
        state = self._states[number]
        if reading is None:
            self._tracker.fail(state.substation, _UNREADABLE, self._now)
        else:
            self._tracker.read(state.substation, reading, asked_at)
            if not state.synced:
                self._sync(number)
        self._route()

    def _sync(self, number: int) -> None:
        """Set the baseline as the dispatcher does after counting a queue, but at once."""
        station = self._stations[number]
        if (reading := self._reading(number)) is not None:
            self._tracker.ask_depth(station.name)
            self._tracker.depth(station.name, len(station.queue), self._now)
            self._tracker.read(station.name, reading, self._now)

    def _event(self, number: int, counts: Counts) -> None:
        if self._tracker.report(self._states[number].substation, counts):
            self._route()

    # the substations

    def _queued(self, number: int, job: int) -> None:
        self._stations[number].queue.append(job)
        self._start(number)

    def _leave(self, _: int, __: None) -> None:
        """Route once more: what waits centrally and has left is dropped before."""
        self._route()

    def _expire(self, job: int) -> None:
        """End a job whose vehicle has left before its session began."""
        self._waits[job] = self._requirements(job).expires_at - self._arrivals[job]
        self._open -= 1

    def _start(self, number: int) -> None:
        """Start the sessions that can start; report each and, with a period of 0, read them."""
        station = self._stations[number]
        while (job := station.next()) is not None:
            departs_at, expires_at = inf, inf
            if self._needs is not None:
                departs_at, expires_at = self._needs[job].departs_at, self._needs[job].expires_at
            if expires_at <= self._now:
                station.drop(job)
                self._expire(job)
                self._tell(number)
                continue
            self._waits[job] = self._now - self._arrivals[job]
            self._starts[job] = self._now
            station.draw(self._power_kw(job))
            seconds = min(self._durations[job], departs_at - self._now)
            station.charging[job] = end = self._now + seconds
            heappush(self._heap, (end, _DONE, number, (job, station.run, seconds)))
            self._tell(number)

    def _power_kw(self, job: int) -> float:
        return DEFAULT_POWER_KW if self._needs is None else self._needs[job].power_kw

    def _tell(self, number: int) -> None:
        latency = self._setting.event_latency
        if latency is not None and self._setting.counters:
            counts = self._stations[number].counts()
            heappush(self._heap, (self._now + latency, _EVENT, number, counts))

    def _done(self, number: int, session: tuple[int, int, float]) -> None:
        job, run, seconds = session
        station = self._stations[number]
        if job not in station.charging or run != station.run:
            return  # an outage interrupted it
        station.finish(job, seconds)
        self._ends[job] = self._now
        station.draw(-self._power_kw(job))
        self._open -= 1
        self._tell(number)
        self._start(number)
        if not self._setting.period:
            self._read(number)

    def _fall(self, number: int, _: None) -> None:
        station = self._stations[number]
        self._restarts += len(station.charging)
        station.fall()
        if not self._setting.period:
            self._read(number)

    def _rise(self, number: int, _: None) -> None:
        station = self._stations[number]
        station.rise()
        self._start(number)
        if not self._setting.period:
            self._read(number)
