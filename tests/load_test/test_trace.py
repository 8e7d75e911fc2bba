"""Tables of sessions: which values are read, and which are refused."""

from __future__ import annotations

from random import Random

import pytest

from grid.errors import ConfigurationError
from load_test.simulate.scenario import Trace
from load_test.trace import Traced, parse, traced

HEAD = "arrival_seconds,duration_seconds\n"
ACN_HEAD = "arrival,departure,requested_energy (kWh),delivered_energy (kWh),station_id\n"
STAY = "2019-05-01 08:00:00-07:00,2019-05-01 10:00:00-07:00"


def test_trace_table_is_sorted_and_starts_at_zero() -> None:
    """Columns are found by their names, in any order and among others; the first jobs are kept."""
    table = "car,duration_seconds,arrival_seconds\na,5,30\nb,7.5,10\n\nc,0,20\n"
    assert parse(table) == Trace([0, 10, 20], [7.5, 0, 5])
    assert parse(table, jobs=2) == Trace([0, 10], [7.5, 0])
    assert parse(table, jobs=9) == parse(table)


@pytest.mark.parametrize(
    ("row", "power", "seconds"),
    [
        pytest.param(f"{STAY},20,7.4,A", 7.4, 3600, id="as long as the energy takes"),
        pytest.param(f"{STAY},20,7.4,A", 3.7, 7200, id="half the power, twice the time"),
        pytest.param(f"{STAY},99,50,A", 7.4, 7200, id="no longer than the vehicle stays"),
        pytest.param("2019-05-01T08:00,2019-05-01T09:00,9,3.7,A", 7.4, 1800, id="no offset"),
    ],
)
def test_trace_sessions_use_the_energy_delivered(row: str, power: float, seconds: float) -> None:
    """The energy delivered counts, not the energy requested, and the power at the connector."""
    assert parse(f"{ACN_HEAD}{row}\n", power).durations == [pytest.approx(seconds)]


def test_trace_arrivals_respect_time_zone_offsets() -> None:
    """Offsets of time zones are taken into account."""
    later = "2019-05-01 17:30:00+01:00,2019-05-01 18:00:00+01:00,9,1,B"
    found = parse(f"{ACN_HEAD}{later}\n{STAY},20,7.4,A\n")
    assert found.arrivals == [0, 5400]
    assert found.durations[0] == pytest.approx(3600)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("", r"line 1: it has neither the columns .*: none"),
        ("a,b\n1,2\n", r"line 1: it has neither the columns arrival_seconds, .* nor .*: a, b"),
        (HEAD, "no session in it that takes any time"),
        (HEAD + "1,0\n", "no session in it that takes any time"),
        (HEAD + "1,2\nsoon,3\n", "line 3: arrival_seconds must be a number, 0 or more, got 'soon'"),
        (HEAD + "1,-2\n", "line 2: duration_seconds must be a number, 0 or more, got '-2'"),
        (HEAD + "1,inf\n", "line 2: duration_seconds must be .*, got 'inf'"),
        (HEAD + "nan,1\n", "line 2: arrival_seconds must be .*, got 'nan'"),
        (HEAD + "1\n", "line 2: duration_seconds must be .*, got None"),
        (HEAD + '1,"2\n', "line 2: unexpected end of data"),
        (f"{ACN_HEAD}{STAY},9,much,A\n", r"line 2: delivered_energy \(kWh\) must .*, got 'much'"),
        (f"{ACN_HEAD}May,June,9,9,A\n", "line 2: arrival must be a time like 2019.*, got 'May'"),
        (f"{ACN_HEAD}2019-05-01,,9,9,A\n", "line 2: departure must be a time like .*, got ''"),
        (
            f"{ACN_HEAD}2019-05-02,2019-05-01,9,9,A\n",
            "line 2: departure must be after arrival, got '2019-05-01'",
        ),
    ],
)
def test_trace_error_names_line_and_value(table: str, problem: str) -> None:
    """The first thing wrong is named, so that it can be found in the file."""
    with pytest.raises(ConfigurationError, match=problem):
        parse(table)


def test_trace_refuses_wrong_arguments() -> None:
    """Power and the number of jobs are above zero."""
    with pytest.raises(ConfigurationError, match="power must be above 0 kW, got 0"):
        parse(HEAD + "1,2\n", power_kw=0)
    with pytest.raises(ConfigurationError, match="jobs must be at least 1, got 0"):
        parse(HEAD + "1,2\n", jobs=0)


TABLE = Trace([0.0, 30.0, 100.0], [20.0, 40.0, 60.0])


def test_trace_arrivals_are_stretched_to_a_utilisation() -> None:
    """120 s of sessions over 100 s are 0.6 of two connectors; at half of that, over 200 s."""
    assert traced(TABLE, 2) == Traced(TABLE, 0.6)
    assert traced(TABLE, 2, 0.3) == Traced(Trace([0, 60, 200], TABLE.durations), 0.3)
    assert traced(TABLE, 4, 0.6).given.arrivals == [0, 15, 50]


def test_trace_jobs_do_not_depend_on_the_seed() -> None:
    """It has its own jobs and their own mean session time, whatever the seed."""
    demand = traced(TABLE, 2)
    assert demand.trace(2, Random(1)) == TABLE  # noqa: S311
    assert (demand.jobs, demand.session) == (3, 40)
    assert demand.as_json() == {"jobs": 3, "utilisation": 0.6, "session_seconds": 40}


def test_trace_at_one_instant_cannot_be_stretched() -> None:
    """Jobs at one instant have no utilisation; unstretched they can be simulated."""
    instant = Trace([0.0, 0.0], [1.0, 2.0])
    assert traced(instant, 1).utilisation is None
    with pytest.raises(ConfigurationError, match="all jobs arrive at one instant"):
        traced(instant, 1, 0.5)
    with pytest.raises(ConfigurationError, match="above 0 and below 1, got 1"):
        traced(TABLE, 1, 1.0)
