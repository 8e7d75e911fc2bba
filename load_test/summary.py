"""The summary of a run: the requests' outcomes, how even the load was, and how fast. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, Final

from grid.events import State
from load_test import text
from load_test.forecasts import Forecast, accuracy
from load_test.measures import measure
from load_test.presence import Sample, present
from load_test.records import Answer, Job, Substation
from load_test.stays import Bound
from load_test.truth import judge
from load_test.waits import Percentiles, beside_ideal, percentiles

_COUNTS: Final = (
    "requests", "accepted", "refused", "unanswered", "retries", "completed", "cancelled",
    "expired", "parked", "lost", "unfinished", "duplicates",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """All that is known when a run is over.

    ``answers`` are in the order of sending, None if Ctrl-C came before the answer. ``jobs`` are all
    jobs that were seen, by their ids, other clients' too, oldest first: they make load as well.
    ``connectors`` holds the substations that could be chosen; ``capacity`` is what those have
    together, None if one does not say. Times are in seconds.
    """

    answers: Sequence[Answer | None]
    jobs: Mapping[str, Job]
    connectors: Mapping[str, float]
    sending_seconds: float
    total_seconds: float
    interrupted: bool = False
    trouble: str = ""  # why the last look at the jobs failed, if it did
    capacity: int | None = None
    samples: Sequence[Sample] = ()  # the substations' loads meanwhile
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)  # of jobs that waited
    started_at: float = 0.0  # Unix seconds
    substations: Sequence[Substation] = ()  # as they were at the end


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a run; a figure that nothing was measured for is None.

    ``lost`` were accepted and did not end in the time given; ``unfinished`` are those of a run
    that was interrupted. Waits are from queued to charging, ``ideal_wait`` as in one central queue.
    ``request_to_answer`` and ``due_to_charging`` count from when a request was due, however late it
    was sent, which ``sent_late`` says.
    Of the expected starts, the error is the median, and those within a fifth are right.
    ``demands_met`` and what follows it are as in ``measures``, the first only where vehicles leave;
    ``most_demands_met`` and ``most_energy_delivered`` are the best that was possible in hindsight.
    Shares are from 0 to 1, spreads in sessions, times in seconds.
    """

    requests: int
    accepted: int
    refused: int
    unanswered: int
    retries: int
    completed: int
    cancelled: int
    expired: int
    parked: int
    lost: int
    unfinished: int
    duplicates: int
    share_per_substation: Mapping[str, float]
    share_least_loaded: float | None
    spread_largest: float | None
    spread_mean: float | None
    request_to_assignment: Percentiles | None
    request_to_charging: Percentiles | None
    request_to_answer: Percentiles | None
    due_to_charging: Percentiles | None
    sent_late: Percentiles | None
    mean_wait: float | None
    ideal_wait: float | None
    wait_above_ideal: float | None
    expected_start_error: float | None
    expected_start_right: float | None
    longest_wait: float | None
    demands_met: float | None
    energy_delivered: float | None
    fairness_vehicles: float | None
    sending_seconds: float
    total_seconds: float
    requests_per_second: float
    completed_per_second: float
    fairness_tenants: float | None = None
    most_demands_met: float | None = None
    most_energy_delivered: float | None = None

    @property
    def kept(self) -> bool:
        """Return whether the promise was kept: requests were accepted, and none was lost."""
        return self.accepted > 0 and self.lost == 0

    def as_table(self) -> str:
        """Return every figure in a line of an aligned table, for reading."""
        shares = [
            (f"share of {name}", text.share(share))
            for name, share in self.share_per_substation.items()
        ]
        return text.table([*self._counts(), *shares, *self._evenness(), *self._speed()])

    def as_json(self) -> dict[str, Any]:
        """Return every figure under its name, JSON-ready."""
        values = asdict(self)
        return {name: _plain(value) for name, value in values.items()}

    def _counts(self) -> list[tuple[str, str]]:
        always = ("requests", "accepted", "refused", "completed", "lost", "duplicates")
        shown = (name for name in _COUNTS if name in always or getattr(self, name))
        return [(name, str(getattr(self, name))) for name in shown]

    def _evenness(self) -> list[tuple[str, str]]:
        spread = "–"
        if self.spread_largest is not None:
            spread = f"largest {self.spread_largest:.1f}, mean {self.spread_mean:.2f} sessions"
        return [
            ("to a least-loaded one", text.share(self.share_least_loaded)),
            ("spread of load", spread),
        ]

    def _speed(self) -> list[tuple[str, str]]:
        sending, total = text.seconds(self.sending_seconds), text.seconds(self.total_seconds)
        return [
            ("request to assignment", text.percentiles(self.request_to_assignment)),
            ("request to charging", text.percentiles(self.request_to_charging)),
            ("request to answer", text.percentiles(self.request_to_answer)),
            ("due to charging", text.percentiles(self.due_to_charging)),
            ("sent late", text.percentiles(self.sent_late)),
            ("wait above the ideal", self._above_ideal()),
            ("longest wait", _shown(self.longest_wait)),
            *self._demands(),
            *self._forecasts(),
            ("sending", f"{sending}, {self.requests_per_second:.1f} requests a second"),
            ("in all", f"{total}, {self.completed_per_second:.1f} completed a second"),
        ]

    def _forecasts(self) -> list[tuple[str, str]]:
        error, right = self.expected_start_error, text.share(self.expected_start_right)
        if error is None:
            return []
        return [("expected start", f"median error {text.seconds(error)}, within a fifth: {right}")]

    def _demands(self) -> list[tuple[str, str]]:
        if self.demands_met is None:
            return []
        fairness = "–" if self.fairness_vehicles is None else f"{self.fairness_vehicles:.3f}"
        energy = text.share(self.energy_delivered)
        met = f"{text.share(self.demands_met)}, energy delivered {energy}, fairness {fairness}"
        if self.fairness_tenants is not None:
            met += f", among tenants {self.fairness_tenants:.3f}"
        rows = [("demands met", met)]
        if self.most_demands_met is not None:
            energy = text.share(self.most_energy_delivered)
            most = f"{text.share(self.most_demands_met)}, energy delivered {energy}, in hindsight"
            rows.append(("possible at most", most))
        return rows

    def _above_ideal(self) -> str:
        parts = (self.wait_above_ideal, self.mean_wait, self.ideal_wait)
        above, mean, ideal = map(_shown, parts)
        return f"{above} (mean {mean}, ideal {ideal})"


def accepted_jobs(run: Run) -> frozenset[str]:
    """Return the ids of the jobs that the run has sent."""
    return frozenset(each.job for each in run.answers if each is not None and each.job is not None)


def ended_jobs(run: Run) -> list[Job]:
    """Return the run's own jobs; of one that was interrupted, those that have ended."""
    own = accepted_jobs(run)
    return [
        job for job in run.jobs.values() if job.id in own and (job.has_ended or not run.interrupted)
    ]


def summarise(run: Run, most: Bound | None = None) -> Summary:
    """Return the figures of a run; ``most`` is the best that was possible, if that is known."""
    answers = [answer for answer in run.answers if answer is not None]
    accepted = accepted_jobs(run)
    own = [job for job in run.jobs.values() if job.id in accepted]
    ends = Counter(job.status for job in own if job.has_ended)
    open_ended = len(accepted) - ends.total()
    routed = Counter(job.substation for job in own if job.substation is not None)
    jobs = present(run.jobs.values(), run.samples, run.connectors)
    judgements = judge(jobs, run.connectors)
    figures = [judgements[job.id] for job in own if job.id in judgements]
    waits = beside_ideal(accepted, jobs, run.capacity)
    forecast = accuracy(own, run.forecasts)
    ended = ended_jobs(run)
    got = measure(ended, {job.id for job in ended}, ())
    due = {answer.job: answer.due for answer in answers if answer.job is not None}
    return Summary(
        requests=len(run.answers),
        accepted=len(accepted),
        refused=sum(answer.job is None for answer in answers),
        unanswered=len(run.answers) - len(answers),
        retries=sum(answer.retries for answer in answers),
        completed=ends[State.COMPLETED],
        cancelled=ends[State.CANCELLED],
        expired=ends[State.EXPIRED],
        parked=ends[State.PARKED],
        lost=0 if run.interrupted else open_ended,
        unfinished=open_ended if run.interrupted else 0,
        duplicates=sum(job.duplicates for job in own),
        share_per_substation=_shares(routed, run.connectors),
        share_least_loaded=_mean(judgement.least_loaded for judgement in figures),
        spread_largest=max((judgement.spread for judgement in figures), default=None),
        spread_mean=_mean(judgement.spread for judgement in figures),
        request_to_assignment=_passed((job.queued, job.assigned) for job in own),
        request_to_charging=_passed((job.queued, job.charging) for job in own),
        request_to_answer=percentiles([one.seconds for one in answers if one.job is not None]),
        due_to_charging=_passed((due[job.id], job.charging) for job in own if job.id in due),
        sent_late=percentiles([one.late_seconds for one in answers if one.due is not None]),
        mean_wait=waits.mean,
        ideal_wait=waits.ideal,
        wait_above_ideal=waits.above,
        expected_start_error=forecast.error,
        expected_start_right=forecast.share,
        longest_wait=got.longest_wait,
        demands_met=got.demands_met if any(job.departs for job in ended) else None,
        energy_delivered=got.energy_delivered,
        fairness_vehicles=got.fairness_vehicles,
        sending_seconds=run.sending_seconds,
        total_seconds=run.total_seconds,
        requests_per_second=_rate(len(answers), run.sending_seconds),
        completed_per_second=_rate(ends[State.COMPLETED], run.total_seconds),
        fairness_tenants=got.fairness_tenants,
        most_demands_met=None if most is None else most.demands_met,
        most_energy_delivered=None if most is None else most.energy_delivered,
    )


def _shown(seconds: float | None) -> str:
    return "–" if seconds is None else text.seconds(seconds)


def _passed(pairs: Iterable[tuple[float | None, float | None]]) -> Percentiles | None:
    known = ((begin, end) for begin, end in pairs if begin is not None and end is not None)
    return percentiles([end - begin for begin, end in known])


def _shares(routed: Counter[str], connectors: Mapping[str, float]) -> dict[str, float]:
    names = sorted({*routed, *connectors}, key=text.natural)
    return {name: routed[name] / max(routed.total(), 1) for name in names}


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _plain(value: object) -> object:
    return value._asdict() if isinstance(value, Percentiles) else value
