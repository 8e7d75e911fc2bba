"""The account of one fault: what was accepted, what became of it, and when all was normal again.

Pure: answers and events go in with their times (seconds of one steady clock), figures come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from math import floor
from typing import Final, NamedTuple

from grid.events import ENDED, Event, State

ACCEPTED: Final = 202
UNAVAILABLE: Final = 503
NORMAL_SECONDS: Final = 1.0  # a request begins to charge within this, in normal service
STRETCH_SECONDS: Final = 0.5  # what is looked at as a whole
STRETCHES: Final = 2  # as many in a row must be normal


class Answer(NamedTuple):
    """What a client got: ``status`` is 0 where no answer came, ``job`` is "" where none was named.

    ``pause`` is the answer's ``Retry-After``, None where it has none.
    """

    sent: float
    answered: float
    status: int
    job: str
    pause: float | None


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the requests answered 202.

    ``ends`` counts their ends by state, ``several`` are those that were told more than one.
    ``duplicates`` counts the sessions beyond a job's first: vehicles that were charged twice.
    """

    accepted: int
    ends: Mapping[str, int]
    lost: frozenset[str]
    several: frozenset[str]
    duplicates: int

    @property
    def balanced(self) -> bool:
        """Tell whether accepted = completed + cancelled + expired + parked, each of them once."""
        return self.accepted == sum(self.ends.values()) and not self.lost and not self.several


class Histories:
    """What the event log tells of each job; a reader may bring the same event twice."""

    def __init__(self) -> None:
        self._ends: dict[str, set[str]] = {}
        self._sessions: dict[str, set[tuple[str, float]]] = {}
        self.duplicates = 0  # sessions beyond a job's first
        self.charging: dict[str, float] = {}  # when a job's first session was seen to begin

    def take(self, event: Event, now: float) -> None:
        """Take in an event that was read at ``now``."""
        if event.kind == State.CHARGING:
            known, session = self._sessions.setdefault(event.job, set()), _session(event)
            self.duplicates += bool(known) and session not in known
            known.add(session)
            self.charging.setdefault(event.job, now)
        elif event.kind in ENDED:
            self._ends.setdefault(event.job, set()).add(event.kind)

    def open(self, jobs: Iterable[str]) -> set[str]:
        """Give those of these jobs that have not ended."""
        return set(jobs) - self._ends.keys()

    def account(self, accepted: Collection[str], counted: int = 0) -> Account:
        """Give the account of the jobs that were accepted, and of who was charged twice meanwhile.

        The latter is of all there are, but for so many ``duplicates`` that were counted before:
        some jobs are nobody's, since their client got no answer, and some are charged again late.
        """
        jobs = set(accepted)
        ended = jobs & self._ends.keys()
        return Account(
            accepted=len(jobs),
            ends=Counter(end for job in ended for end in self._ends[job]),
            lost=frozenset(self.open(jobs)),
            several=frozenset(job for job in ended if len(self._ends[job]) > 1),
            duplicates=self.duplicates - counted,
        )


def _session(event: Event) -> tuple[str, float]:
    """Give what makes a session: one instant at one substation, however often it is written."""
    return event.substation, event.at


def accepted(answers: Iterable[Answer]) -> set[str]:
    """Give the jobs that were answered 202."""
    return {each.job for each in answers if is_accepted(each)}


def recovery(
    sent: Iterable[float],
    answers: Iterable[Answer],
    is_well: Callable[[Answer], bool],
    *,
    since: float,
    now: float,
) -> float | None:
    """Give the seconds from ``since`` until all went well again; None where it does not yet.

    ``sent`` are the times of all requests. It is from the first of two half seconds in a row in
    which every request was answered, and each answer ``is_well``.
    """
    asked = Counter(_stretch(each, since) for each in sent)
    well = Counter(_stretch(each.sent, since) for each in answers if is_well(each))
    known = _stretch(
        now - NORMAL_SECONDS, since
    )  # those from then on may still turn out either way
    normal = {each for each in range(known) if asked[each] and well[each] == asked[each]}
    for stretch in sorted(normal):
        if normal.issuperset(range(stretch, stretch + STRETCHES)):
            return stretch * STRETCH_SECONDS
    return None


def is_accepted(answer: Answer) -> bool:
    """Tell whether an answer is 202."""
    return answer.status == ACCEPTED


def is_normal(answer: Answer, charging: Mapping[str, float]) -> bool:
    """Tell whether one was answered 202, and began to charge within ``NORMAL_SECONDS``."""
    begun = charging.get(answer.job)
    return is_accepted(answer) and begun is not None and begun - answer.sent <= NORMAL_SECONDS


def _stretch(at: float, since: float) -> int:
    return floor((at - since) / STRETCH_SECONDS)
