"""The state of a run in progress: the answers so far, their lines, and the view of it all."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Final, Protocol, TextIO

from grid.events import State
from load_test import text
from load_test.outcome import Follower
from load_test.records import Answer
from load_test.view.progress import Progress
from load_test.waits import percentiles

_LAST_ANSWERS: Final = 1000  # latencies that are shown
_LAST_LOOKS: Final = 240  # counts of waiting jobs that are shown


class View(Protocol):
    """A way to show how far a run is, drawn anew every ``interval`` seconds at most."""

    interval: float

    def show(self, progress: Progress) -> None:
        """Show it now."""

    def write(self, lines: str, out: TextIO) -> None:
        """Write lines to the output without disturbing what is shown."""

    def close(self) -> None:
        """Leave what is shown as it is."""


class Board:
    """The answers so far; shows each request's lines in the order of sending.

    ``requests`` is how many there will be, ``steady`` a clock.
    """

    def __init__(
        self,
        requests: int,
        view: View,
        steady: Callable[[], float],
        *,
        quiet: bool,
        out: TextIO,
    ) -> None:
        self.answers: list[Answer | None] = [None] * requests
        self._shown = requests if quiet else 0
        self._out = out
        self._view = view
        self._steady = steady
        self._began = steady()
        self._due = self._began + view.interval
        self._answered = self._refused = 0
        self._sending = True
        self._latencies: deque[float] = deque(maxlen=_LAST_ANSWERS)
        self._states: Counter[State] = Counter()
        self._loads: Mapping[str, float | None] = {}
        self._routed: Counter[str] = Counter()
        self._waiting: deque[int] = deque(maxlen=_LAST_LOOKS)

    @property
    def accepted(self) -> list[str]:
        """Return the ids of the jobs accepted so far, in the order of sending."""
        return [one.job for one in self.answers if one is not None and one.job is not None]

    def put(self, number: int, answer: Answer) -> None:
        """Add the answer to one request, and show the answers that now have no gap before them."""
        self.answers[number] = answer
        self._answered += 1
        self._refused += answer.job is None
        self._latencies.append(answer.seconds)
        if ready := "\n".join(map(text.lines, self._ready())):
            self._view.write(f"{ready}\n", self._out)
        self._show_if_due()

    def sent_all(self) -> None:
        """Show that nothing is left to be sent."""
        self._show(inf)
        self._sending = False

    def look(self, follower: Follower) -> None:
        """Show what became of the jobs, as the follower knows it."""
        accepted = self.accepted
        jobs = [follower.jobs[job] for job in accepted if job in follower.jobs]
        self._states = Counter(job.status for job in jobs)
        self._states[State.QUEUED] += len(accepted) - len(jobs)  # as far as is known
        self._routed = Counter(job.substation for job in jobs if job.substation is not None)
        self._waiting.append(self._states[State.QUEUED])
        if follower.samples:
            self._loads = follower.samples[-1].loads
        self._show_if_due()

    def close(self) -> None:
        """Show the end of the run, and leave that as it is."""
        if self._states:
            self._show(inf)
        self._view.close()

    def _show_if_due(self) -> None:
        if (now := self._steady()) >= self._due:
            self._show(now)

    def _show(self, now: float) -> None:
        self._due = now + self._view.interval
        self._view.show(
            Progress(
                seconds=self._steady() - self._began,
                sending=self._sending,
                requests=len(self.answers),
                answered=self._answered,
                refused=self._refused,
                states=self._states,
                loads=self._loads,
                routed=self._routed,
                answers=percentiles(self._latencies),
                waiting=tuple(self._waiting),
            )
        )

    def _ready(self) -> Iterator[Answer]:
        while self._shown < len(self.answers):
            answer = self.answers[self._shown]
            if answer is None:
                return
            self._shown += 1
            yield answer
