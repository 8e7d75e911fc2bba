"""The summary: what is counted, and how it reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from grid.events import State
from load_test.forecasts import Forecast
from load_test.records import Answer, Job
from load_test.stays import Bound
from load_test.summary import Run, summarise
from load_test.waits import Percentiles


def accepted(job: str, seconds: float = 0.01) -> Answer:
    """Make the answer to an accepted request."""
    return Answer(job, seconds, routed_to="s1", loads={"s1": 0})


def done(id: str, substation: str, at: float) -> Job:
    """Make a job that took its course: assigned after 10 ms, charging after 20, ended after 3 s."""
    times = (at, at + 0.01, at + 0.02, at + 3)
    return Job(id, State.COMPLETED, substation, *times)


def run(
    answers: Sequence[Answer | None],
    jobs: list[Job],
    *,
    interrupted: bool = False,
    capacity: int | None = 100,
) -> Run:
    """Make a run of 10 s on two substations."""
    connectors = {"s1": 50.0, "s2": 50.0}
    by_id = {job.id: job for job in jobs}
    return Run(answers, by_id, connectors, 5.0, 10.0, interrupted, capacity=capacity)


def test_report_of_a_small_run_has_the_figures_counted_by_hand() -> None:
    """Every figure of a small run is what one counts by hand."""
    jobs = [done("1", "s1", 100), done("2", "s2", 101), done("3", "s2", 102), done("4", "s1", 110)]
    summary = summarise(run([accepted(job.id) for job in jobs], jobs))
    assert summary.kept
    assert (summary.requests, summary.accepted, summary.completed, summary.lost) == (4, 4, 4, 0)
    assert summary.share_per_substation == {"s1": 0.5, "s2": 0.5}
    assert summary.share_least_loaded == 1.0
    assert (summary.spread_largest, summary.spread_mean) == (1.0, 0.75)
    assert summary.request_to_assignment == pytest.approx((0.01, 0.01, 0.01))
    assert summary.request_to_charging == pytest.approx((0.02, 0.02, 0.02))
    assert (summary.requests_per_second, summary.completed_per_second) == (0.8, 0.4)


def test_report_tells_each_kind_of_end_apart() -> None:
    """Lost is what was accepted and neither completed, nor cancelled, expired or parked."""
    jobs = [
        done("1", "s1", 100),
        Job("2", State.CANCELLED),
        Job("3", State.EXPIRED),
        Job("4", State.PARKED),
        Job("5", State.CHARGING, "s1", 1, 2, 3),
    ]
    refused = Answer(None, 1.0, retries=3, reason="503")
    answers = [refused, *(accepted(str(number)) for number in range(1, 7))]
    summary = summarise(run(answers, jobs))
    counts = (summary.completed, summary.cancelled, summary.expired, summary.parked)
    assert counts == (1, 1, 1, 1)
    assert (summary.refused, summary.retries) == (1, 3)
    assert summary.lost == 2  # one never ended, one was never heard of
    assert not summary.kept


def test_report_of_an_interrupted_run_calls_nothing_lost() -> None:
    """After Ctrl-C nothing is called lost: nobody waited for it."""
    answers = [accepted("1"), accepted("2"), None]
    summary = summarise(run(answers, [done("1", "s1", 0)], interrupted=True))
    assert (summary.unfinished, summary.unanswered, summary.lost) == (1, 1, 0)


def test_report_excludes_jobs_of_other_clients() -> None:
    """Another client's session makes its substation heavier; it adds to no count of ours."""
    summary = summarise(run([accepted("1")], [done("x", "s1", 0), done("1", "s1", 1)]))
    assert (summary.completed, summary.share_per_substation) == (1, {"s1": 1.0, "s2": 0.0})
    assert summary.share_least_loaded == 0.0


@pytest.mark.parametrize(
    ("capacity", "line", "above"),
    [
        (100, "wait above the ideal   20.0 ms (mean 20.0 ms, ideal 0.0 ms)", 0.02),
        (1, "wait above the ideal   -1.22 s (mean 20.0 ms, ideal 1.24 s)", -1.22),
        (None, "wait above the ideal   – (mean 20.0 ms, ideal –)", None),
    ],
)
def test_report_compares_the_wait_with_the_ideal(
    capacity: int | None, line: str, above: float | None
) -> None:
    """The same is told in words and in figures; without the connectors there is no ideal."""
    jobs = [done("x", "s1", 99.5), done("1", "s2", 100), done("2", "s1", 110)]
    summary = summarise(run([accepted("1"), accepted("2")], jobs, capacity=capacity))
    assert line in summary.as_table().splitlines()
    values = summary.as_json()
    assert values["mean_wait"] == pytest.approx(0.02)
    assert values["wait_above_ideal"] == pytest.approx(above)


def test_report_judges_forecasts_by_the_time_that_was_left() -> None:
    """Within a fifth of it is right; of a job that began at once, none is judged."""
    jobs = [done(str(number), "s1", 100 * number) for number in range(1, 6)]
    starts = {job.id: job.charging or 0.0 for job in jobs}
    forecasts = {
        "1": Forecast(starts["1"] - 10, starts["1"] + 2),
        "2": Forecast(starts["2"] - 10, starts["2"] - 3),
        "3": Forecast(starts["3"] - 100, starts["3"] + 4),
        "4": Forecast(starts["4"] - 0.5, starts["4"] + 9),
    }
    known = run([accepted(job.id) for job in jobs], jobs)
    summary = summarise(replace(known, forecasts=forecasts))
    assert summary.expected_start_error == pytest.approx(3)
    assert summary.expected_start_right == pytest.approx(2 / 3)
    line = "expected start         median error 3.00 s, within a fifth: 66.7 %"
    assert line in summary.as_table().splitlines()
    assert summarise(known).expected_start_error is None
    assert "expected start" not in summarise(known).as_table()


def test_report_counts_the_start_of_charging_from_when_it_was_due() -> None:
    """A request that was sent late has waited since it was due, not since it was queued."""
    late = replace(accepted("1"), due=99.0, late_seconds=1.0)
    summary = summarise(run([late], [done("1", "s1", 100)]))
    assert summary.request_to_charging == pytest.approx((0.02, 0.02, 0.02))
    assert summary.due_to_charging == pytest.approx((1.02, 1.02, 1.02))


def test_report_tells_of_demands_where_vehicles_leave() -> None:
    """One of two had what it requested when it left; without departures there is no line."""
    jobs = [
        replace(done("1", "s1", 100), requested_kwh=10.0, departs=104.0),
        replace(done("2", "s2", 100), requested_kwh=10.0, departs=101.52),
    ]
    answers = [accepted(job.id) for job in jobs]
    summary = summarise(run(answers, jobs))
    assert summary.demands_met == 0.5
    assert summary.longest_wait == pytest.approx(0.02)
    assert summary.energy_delivered == pytest.approx((1 + 1.5 / 2.98) / 2)
    assert "demands met            50.0 %, energy delivered 75.2 %" in summary.as_table()
    assert "demands met" not in summarise(run(answers, [done("1", "s1", 1)])).as_table()
    assert "possible at most" not in summary.as_table()


def test_report_shows_what_was_possible_and_fairness_among_tenants() -> None:
    """Where it is known: beside what was reached, and in the JSON."""
    jobs = [
        replace(done("1", "s1", 100), requested_kwh=10.0, departs=104.0, tenant="buses"),
        replace(done("2", "s2", 100), requested_kwh=10.0, departs=101.52, tenant="taxis"),
    ]
    summary = summarise(run([accepted(job.id) for job in jobs], jobs), Bound(0.991, 0.957))
    assert "fairness 0.902, among tenants 0.902" in summary.as_table()
    assert "possible at most       99.1 %, energy delivered 95.7 %, in hindsight" in (
        summary.as_table()
    )
    values = summary.as_json()
    assert (values["most_demands_met"], values["most_energy_delivered"]) == (0.991, 0.957)


def test_report_of_nothing_accepted_is_a_failure() -> None:
    """A run that got nothing through has shown nothing, and has no figure to divide by."""
    summary = summarise(run([Answer(None, 1.0, reason="503")], []))
    assert not summary.kept
    assert summary.share_least_loaded is None
    assert summary.request_to_answer is None
    assert (summary.mean_wait, summary.ideal_wait, summary.wait_above_ideal) == (None,) * 3
    assert "to a least-loaded one  –" in summary.as_table()


def test_report_table_agrees_with_the_json() -> None:
    """Values stand in one column; the JSON carries every figure under its name."""
    jobs = [done(str(number), f"s{1 + number % 2}", number) for number in range(10)]
    summary = summarise(run([accepted(job.id) for job in jobs], jobs))
    table = summary.as_table().splitlines()
    assert table[0] == "requests               10"
    assert "share of s1            50.0 %" in table
    assert "lost                   0" in table
    values = json.loads(json.dumps(summary.as_json()))
    assert values["completed"] == 10
    assert set(values["request_to_charging"]) == set(Percentiles._fields)
