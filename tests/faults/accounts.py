"""The account of one fault: what was accepted, how it ended, and when service was normal again.

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
STRETCH_SECONDS: Final = 0.5  # the length of a stretch that is judged as a whole
STRETCHES: Final = 2  # as many in a row must be normal


class Answer(NamedTuple):
    """What a client got: ``status`` is 0 without an answer, ``job`` is "" if none was named.

    ``pause`` is the answer's ``Retry-After``, None if it has none.
    """

    sent: float
    answered: float
    status: int
    job: str
    pause: float | None


@dataclass(frozen=True, slots=True)
class Account:
    """The ends of the requests answered 202.

    ``ends`` counts them by state, ``several`` are the jobs with more than one end. ``duplicates``
    counts the sessions beyond a job's first: vehicles that were charged twice.
    """

    accepted: int
    ends: Mapping[str, int]
    lost: frozenset[str]
    several: frozenset[str]
    duplicates: int

    @property
    def balanced(self) -> bool:
        """Return whether accepted = completed + cancelled + expired + parked, each of them once."""
        return self.accepted == sum(self.ends.values()) and not self.lost and not self.several


class Histories:
    """What the event log has of each job; a reader may get the same event twice."""

    def __init__(self) -> None:
        self._ends: dict[str, set[str]] = {}
        self._sessions: dict[str, set[tuple[str, float]]] = {}
        self.duplicates = 0  # sessions beyond a job's first
        self.charging: dict[str, float] = {}  # when a job's first session was seen to begin

    def take(self, event: Event, now: float) -> None:
        """Apply an event that was read at ``now``."""
        if event.kind == State.CHARGING:
            known, session = self._sessions.setdefault(event.job, set()), _session(event)
            self.duplicates += bool(known) and session not in known
            known.add(session)
            self.charging.setdefault(event.job, now)
        elif event.kind in ENDED:
            self._ends.setdefault(event.job, set()).add(event.kind)

    def open(self, jobs: Iterable[str]) -> set[str]:
        """Return those of these jobs that have not ended."""
        return set(jobs) - self._ends.keys()

    def account(self, accepted: Collection[str], counted: int = 0) -> Account:
        """Return the account of the accepted jobs, with the vehicles charged twice meanwhile.

        Those are of all jobs, less the ``counted`` ones of earlier accounts: some jobs are in no
        account, since their client got no answer, and some are charged again late.
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
    """Return what identifies a session: an instant at a substation, however often it is written."""
    return event.substation, event.at


def accepted(answers: Iterable[Answer]) -> set[str]:
    """Return the jobs that were answered 202."""
    return {each.job for each in answers if is_accepted(each)}


def recovery(
    sent: Iterable[float],
    answers: Iterable[Answer],
    is_well: Callable[[Answer], bool],
    *,
    since: float,
    now: float,
) -> float | None:
    """Return the seconds from ``since`` until all went well again; None if it does not yet.

    ``sent`` are the times of all requests. All goes well from the first of two half seconds in a
    row in which every request was answered, and each answer ``is_well``.
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
    """Return whether an answer is 202."""
    return answer.status == ACCEPTED


def is_normal(answer: Answer, charging: Mapping[str, float]) -> bool:
    """Return whether a request was answered 202 and began to charge within ``NORMAL_SECONDS``."""
    begun = charging.get(answer.job)
    return is_accepted(answer) and begun is not None and begun - answer.sent <= NORMAL_SECONDS


def _stretch(at: float, since: float) -> int:
    return floor((at - since) / STRETCH_SECONDS)
