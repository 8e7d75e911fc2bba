"""An api with a page, fed with what happens in a grid that is invented second by second.

Its clock stands still but for ``second``: the same second looks the same in every run.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from random import Random
from typing import Any

from api.auth import ApiKeys
from grid import kinds, provenance
from grid.events import Event, State
from grid.messages import ChargeRequest
from tests.api.harness import Bench

CONNECTORS = 12
SESSION_SECONDS = 24, 40
RATED_KW = 250.0


class FedApi:
    """An api, and the grid that it hears of: ``second`` passes one second there.

    ``rate`` is how many requests come in a second. A substation that is in ``drained`` or
    ``broken`` gets none; ``broken`` has the reasons.
    """

    def __init__(
        self,
        substations: Sequence[str],
        rate: float,
        *,
        keys: ApiKeys | None = None,
        closed: bool = False,
    ) -> None:
        self.bench = Bench(keys=keys, closed=closed, max_jobs=100_000)
        self.rate = rate
        self.drained: set[str] = set()
        self.limits: dict[str, int] = {}
        self.power_limits: dict[str, float] = {}  # in kW
        self.promised: dict[str, tuple[int, float]] = {}  # starts, and when the next one is
        self.broken: dict[str, str] = {}
        self.dispatches = True  # whether the dispatcher works
        self._names = list(substations)
        self._chance = Random(7)  # noqa: S311
        self._number = 0
        self._waiting: deque[ChargeRequest] = deque()
        self._sessions: dict[str, list[tuple[float, str]]] = {each: [] for each in substations}
        self._in_flight: dict[str, deque[tuple[float, str]]] = {
            each: deque() for each in substations
        }
        self._background = {each: self._chance.uniform(8, 60) for each in substations}

    def run(self, seconds: int) -> None:
        """Have so many seconds pass."""
        for _ in range(seconds):
            self.second()

    def second(self) -> None:
        """Have one second pass."""
        bench, chance = self.bench, self._chance
        bench.at += 1
        bench.now += 1
        bench.offset += 1
        swing = 1 + 0.5 * Random(int(bench.at) // 25).uniform(-1, 1)  # noqa: S311
        count = int(self.rate * swing + chance.random())
        self._request(count)
        self._sessions_go_on()
        if self.dispatches:
            self._dispatch()
            snapshot = kinds.snapshot(bench.at, "this", [*map(self._row, self._names)], (), 0)
            bench.hear(snapshot)
        bench.feed.end_second([], "")

    def second_of_silence(self) -> None:
        """Have one second pass in which requests come, and the dispatcher writes nothing."""
        self.dispatches = False
        self.bench.at += 1
        self.bench.now += 1
        self._request(1)
        self.bench.feed.end_second([], "")

    def park(self, reason: str) -> str:
        """Park a job, and return its id."""
        request = self._new_request()
        self.bench.hear(kinds.queued(request))
        self.bench.hear(Event(State.PARKED, self.bench.at, request.id, reason=reason))
        return request.id

    def send(self, job: str, substation: str) -> None:
        """Have the dispatcher send a job that was requested over HTTP."""
        rows = [*map(self._row, self._names)]
        self.bench.hear(self._assigned(job, self.bench.at, substation, rows))

    def new_request_event(self, job: str) -> Event:
        """Return the event of a request whose job has this id."""
        return Event(State.QUEUED, self.bench.at, job, detail={"vehicle_id": job})

    def _assigned(
        self, job: str, requested_at: float, substation: str, rows: list[dict[str, Any]]
    ) -> Event:
        reason = "least utilised of those that can take it"
        decision = {"policy": "least-utilised", "reason": reason, "candidates": rows}
        return kinds.assigned(
            job,
            self.bench.at,
            substation,
            1,
            requested_at=requested_at,
            replays=0,
            decision=decision,
        )

    def _new_request(self) -> ChargeRequest:
        self._number += 1
        return ChargeRequest(
            id=f"{self._chance.getrandbits(32):08x}-5b1d-4c4e-9f57-{self._number:012x}",
            requested_at=self.bench.at - self._chance.random(),
            vehicle_id=f"{self._chance.choice(('bus', 'van', 'taxi'))}-{self._number % 400:03d}",
            requested_energy_kwh=float(self._chance.randint(8, 60)),
            requested_power_kw=float(self._chance.choice((7, 11, 22))),
        )

    def _request(self, count: int) -> None:
        found = [self._new_request() for _ in range(count)]
        self._waiting.extend(found)
        self.bench.hear(*map(kinds.queued, found), writer=provenance.API)

    def _dispatch(self) -> None:
        at, events = self.bench.at, []
        sent: Counter[str] = Counter()
        rows = sorted(map(self._row, self._names), key=lambda row: row["utilisation"])[:8]
        while self._waiting and (able := self._able()):
            where = min(able, key=lambda name: (self._load(name) / CONNECTORS, sent[name]))
            request = self._waiting.popleft()
            event = self._assigned(request.id, request.requested_at, where, rows)
            sent[where] += 1
            self._in_flight[where].append((at, request.id))
            events.append(event)
        for start in range(0, len(events), 400):
            self.bench.hear(*events[start : start + 400])

    def _able(self) -> list[str]:
        """Return substations that have room: of many, some."""
        few = self._names if len(self._names) < 20 else self._chance.sample(self._names, 12)
        return [each for each in few if self._has_room(each)]

    def _sessions_go_on(self) -> None:
        at, events = self.bench.at, []
        for name in self._names:
            if name in self.broken:
                continue
            for until, job in [each for each in self._sessions[name] if each[0] <= at]:
                self._sessions[name].remove((until, job))
                energy = float(self._chance.randint(8, 60))
                events.append(Event(State.COMPLETED, at, job, name, energy_kwh=energy))
            while self._in_flight[name]:
                sent_at, job = self._in_flight[name].popleft()
                began = min(at, sent_at + self._chance.uniform(0.05, 0.4))
                events.append(Event(State.CHARGING, began, job, name))
                lasts = self._chance.uniform(*SESSION_SECONDS)
                self._sessions[name].append((at + lasts, job))
        for start in range(0, len(events), 400):
            self.bench.hear(*events[start : start + 400])

    def _load(self, name: str) -> int:
        return len(self._sessions[name]) + len(self._in_flight[name])

    def _has_room(self, name: str) -> bool:
        room = min(CONNECTORS, self.limits.get(name, CONNECTORS))
        return name not in self.drained and name not in self.broken and self._load(name) < room

    def _power_limit(self, name: str) -> dict[str, Any]:
        if (kw := self.power_limits.get(name)) is None:
            return {}
        words = f"limited to {kw:g} kW until 18:00 UTC by dso"
        coming = "limited to 10 kW from 19:00 UTC by dso"
        return {
            "power_limit_kw": kw,
            "power_limit_source": "dso",
            "power_limit": words,
            "next_power_limit_kw": 10.0,
            "next_power_limit": coming,
        }

    def _promises(self, name: str) -> dict[str, Any]:
        if name not in self.promised:
            return {}
        number, start = self.promised[name]
        return {"promised": number, "next_promised_start": start}

    def _row(self, name: str) -> dict[str, Any]:
        load = self._load(name)
        reason = self.broken.get(name)
        if name in self.drained:
            reason = reason or "drained by an operator"
        elif not self._has_room(name):
            reason = reason or "full"
        power = self._background[name] + 11.0 * load
        return {
            "substation": name,
            "load": float(load),
            "connectors": float(CONNECTORS),
            "utilisation": round(max(load / CONNECTORS, power / RATED_KW), 4),
            "gauge": float(len(self._sessions[name])),
            "gauge_age_seconds": 47.0 if name in self.broken else round(0.2 + len(name) % 3 / 8, 3),
            "outstanding": float(len(self._in_flight[name])),
            "power_kw": round(power, 3),
            "background_power_kw": self._background[name],
            "rated_power_kw": RATED_KW,
            "state": "draining" if name in self.drained else "available",
            "limit": self.limits.get(name),
            **self._power_limit(name),
            **self._promises(name),
            "eligible": reason is None,
            "reason": reason,
        }
