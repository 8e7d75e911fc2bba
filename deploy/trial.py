"""One charge request, sent through the whole system before it is reported as running."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from deploy import pages
from deploy.pages import NoAnswer

VEHICLE: Final = "start-up check"
# the most urgent, so that it overtakes what waits, and so little power that it fits anywhere
REQUEST: Final = {"vehicle_id": VEHICLE, "priority": 9, "requested_power_kw": 0.1}
ACCEPTED: Final = 202
BEGIN_SECONDS: Final = 30.0
END_SECONDS: Final = 10.0  # for the session's end, so that no substation still has it
ANSWER_SECONDS: Final = 10.0
POLL_INTERVAL: Final = 0.2
CHARGING: Final = "charging"
COMPLETED: Final = "completed"
UNDECIDED: Final = frozenset({"queued", "assigned"})
DRAINED: Final = "No test request was sent: every substation is drained by an operator."
FULL: Final = "The test request waits like other requests: every substation is full."


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of the request: problems by name, and a remark if it did not start."""

    problems: Mapping[str, str] = field(default_factory=dict)
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial at one api.

    Args:
        url: of the api.
        key: of the api, if it needs one.
        now: a clock, in seconds.
        sleep: waits for so many seconds.
    """

    url: str
    key: str | None = None
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self) -> Outcome:
        """Send a request, and wait until a vehicle charges for it.

        If every substation is full it may wait like any other, and if an operator has drained all
        of them, none is sent: neither is an error of the start.
        """
        try:
            rows = self._substations()
            if rows and not any(map(_takes_jobs, rows)):
                return Outcome(remark=DRAINED)
            return self._outcome(self._began())
        except (NoAnswer, LookupError, TypeError, ValueError) as error:
            return Outcome({"api": f"no request goes through: {error}"})

    def _began(self) -> dict[str, Any]:
        """Return the job once a vehicle charges for it, or once it will not."""
        deadline = self.now() + BEGIN_SECONDS
        accepted = self._until(self._post, lambda _: True, deadline)

        def job() -> dict[str, Any]:
            found: dict[str, Any] = self._ask(f"/charge/{accepted['id']}")
            return found

        found = self._until(job, lambda job: job["status"] not in UNDECIDED, deadline)
        if found["status"] != CHARGING:
            return found
        deadline = self.now() + END_SECONDS
        return self._until(job, lambda job: job["status"] != CHARGING, deadline)

    def _outcome(self, job: Mapping[str, Any]) -> Outcome:
        if job["status"] in {CHARGING, COMPLETED}:
            return Outcome()
        rows = self._substations()
        if job["status"] in UNDECIDED and rows and all(map(_is_full, rows)):
            return Outcome(remark=FULL)
        why = job.get("reason") or f"still, after {BEGIN_SECONDS:g} s"
        name = job.get("substation") or "dispatcher"
        return Outcome({name: f"no request goes through: {job['id']} is {job['status']}, {why}"})

    def _until(
        self,
        ask: Callable[[], dict[str, Any]],
        holds: Callable[[dict[str, Any]], bool],
        deadline: float,
    ) -> dict[str, Any]:
        """Ask until a condition holds or the time has passed; a single failed answer is ignored."""
        while True:
            try:
                if holds(seen := ask()) or self.now() > deadline:
                    return seen
            except NoAnswer:
                if self.now() > deadline:
                    raise
            self.sleep(POLL_INTERVAL)

    def _post(self) -> dict[str, Any]:
        url = f"{self.url}/charge"
        status, content = pages.ask(url, "POST", REQUEST, self.key, ANSWER_SECONDS)
        if status != ACCEPTED:
            raise NoAnswer(f"{url}: {status} {content[:500].strip()}")
        accepted: dict[str, Any] = json.loads(content)
        return accepted

    def _substations(self) -> list[Any]:
        rows: list[Any] = self._ask("/substations")["substations"]
        return rows

    def _ask(self, path: str) -> Any:  # noqa: ANN401 - JSON
        return pages.ask_json(f"{self.url}{path}", self.key, ANSWER_SECONDS)


def _takes_jobs(row: Mapping[str, Any]) -> bool:
    return row.get("state") != "draining"


def _is_full(row: Mapping[str, Any]) -> bool:
    limit = row.get("limit")
    capacity = row["connectors"] if limit is None else min(limit, row["connectors"])
    return not _takes_jobs(row) or row["load"] >= capacity
