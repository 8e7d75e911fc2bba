from __future__ import annotations

import math
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from grid.errors import MalformedReading
from grid.events import Counts
from scheduling import readings
from scheduling.readings import Reading
from substation.station import Station
from substation.telemetry import StationCollector, name_page, session_seconds

FULL_PAGE = """\
# HELP ev_charging_load Charging sessions in progress
# TYPE ev_charging_load gauge
ev_charging_load 2.0
ev_charging_connectors 50
ev_charging_power_kw 14.8
ev_charging_rated_power_kw 400
ev_charging_background_power_kw 0
ev_charging_sessions_accepted_total 7
ev_charging_sessions_completed_total 5
ev_charging_duplicate_deliveries_total 1
process_start_time_seconds 1.7e9
ev_charging_session_seconds_bucket{le="+Inf"} 5
ev_charging_session_seconds_sum 17.5
ev_charging_session_seconds_count 5
python_info{version="3.11"} 1
"""
ASKED_AT = 1_700_000_000.0


def parse(page: str, asked_at: float = ASKED_AT) -> Reading:
    """Return what a page says that was asked for just now."""
    return readings.parse(page, asked_at)


COUNTERS = ("sessions_accepted_total", "sessions_completed_total", "duplicate_deliveries_total")
LINE = st.tuples(
    st.sampled_from(
        ["ev_charging_load", "ev_charging_connectors", "process_start_time_seconds", "other"]
        + [f"ev_charging_{name}" for name in COUNTERS]
    ),
    st.sampled_from(["", "{}", '{a="b"}', '{a="', "{a=b}", "}", "{,}", ' "']),
    st.sampled_from([" ", "", "\t", "  "]),
    st.one_of(
        st.floats().map(str), st.sampled_from(["", "x", "1 2", "1 x", "0x1", "1e999", "1_0"])
    ),
    st.sampled_from(["\n", "\r\n", "\r", "", "\n\n"]),
).map("".join)


def test_page_with_every_figure_is_read() -> None:
    """Every figure arrives where it belongs; what is not ours on the page does no harm."""
    assert parse(FULL_PAGE) == Reading(
        2, 50, 14.8, 400, 0, Counts(2, 7, 5, 1, 1.7e9, 14.8), session_seconds=3.5
    )


@pytest.mark.parametrize(
    ("page", "load"),
    [
        ("ev_charging_load 2.0\n", 2),
        ("ev_charging_load 2.0", 2),
        ("ev_charging_load 0\n", 0),
        ("ev_charging_load{} 3\n", 3),
        ("\r\nev_charging_load   4.5\r\n", 4.5),
        ("# TYPE ev_charging_load counter\nev_charging_load 1e2\n", 100),
        ("# ev_charging_load 9\nev_charging_load 1\n", 1),
        ("ev_charging_load_by_depot 9\nev_charging_load 1\nmy_ev_charging_load NaN\n", 1),
        ("a line of nonsense {\nev_charging_load 1\n", 1),
    ],
)
def test_page_with_only_the_load_is_read(page: str, load: float) -> None:
    """A substation that exports only ``ev_charging_load`` is read; all else is unknown."""
    assert parse(page) == Reading(load)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("", "has no ev_charging_load"),
        ("# TYPE ev_charging_load gauge\n", "has no ev_charging_load"),
        ("Ev_charging_load 1\n", "has no ev_charging_load"),
        ("<html><body>It works!</body></html>", "HTML"),
        ("  <!doctype html>\n<pre>\nev_charging_load 1\n</pre>", "HTML"),
        ('{"ev_charging_load": 1}', "has no ev_charging_load"),
        ("ev_charging_load NaN\n", "ev_charging_load is nan"),
        ("ev_charging_load +Inf\n", "ev_charging_load is inf"),
        ("ev_charging_load -Inf\n", "ev_charging_load is -inf"),
        ("ev_charging_load -1\n", "ev_charging_load is -1"),
        ("ev_charging_load 1e16\n", "ev_charging_load is 1e[+]16: it must be from 0 to 1e[+]15"),
        ("ev_charging_load\n", "not a line"),
        ("ev_charging_load two\n", "not a line"),
        ("ev_charging_load 1\nev_charging_load 1\n", "several samples"),
        ("ev_charging_load 1\nother 2\nev_charging_load 3\n", "several samples"),
        ('ev_charging_load{depot="north"} 1\n', "labels"),
        ('ev_charging_load{depot="n"} 1\nev_charging_load{depot="s"} 2\n', "labels"),
        ("ev_charging_load 1\nev_charging_connectors 0\n", "ev_charging_connectors is 0"),
        ("ev_charging_load 1\nev_charging_connectors 1e-320\n", "must be 1 or more"),
        ("ev_charging_load 1\nev_charging_connectors NaN\n", "ev_charging_connectors is nan"),
        ("ev_charging_load 1\nev_charging_sessions_accepted_total -3\n", "_accepted_total is -3"),
        ("ev_charging_load 1\nprocess_start_time_seconds NaN\n", "start_time_seconds is nan"),
        ("ev_charging_load 1\nev_charging_power_kw NaN\n", "ev_charging_power_kw is nan"),
        ("ev_charging_load 1\nev_charging_rated_power_kw +Inf\n", "rated_power_kw is inf"),
        ("ev_charging_load 1\nev_charging_background_power_kw -2\n", "background_power_kw is -2"),
        ("ev_charging_load 1\nev_charging_session_seconds_sum NaN\n", "seconds_sum is nan"),
    ],
)
def test_page_without_a_load_is_refused(page: str, words: str) -> None:
    """Unknown is never idle: the error names the figure and what is wrong with it."""
    with pytest.raises(MalformedReading, match=words):
        parse(page)


@pytest.mark.parametrize(
    "missing",
    [
        "ev_charging_sessions_accepted_total",
        "ev_charging_sessions_completed_total",
        "process_start_time_seconds",
    ],
)
def test_page_with_incomplete_counters_is_read_without_them(missing: str) -> None:
    """Without one of the counters, or the start they count from, the load is all there is."""
    lines = [line for line in FULL_PAGE.splitlines() if not line.startswith(missing)]
    reading = parse("\n".join(lines))
    assert (reading.load, reading.counts) == (2, None)


def test_page_without_a_duplicates_counter_counts_zero() -> None:
    """The counter of duplicates may be missing: a simple substation never has one."""
    page = FULL_PAGE.replace("ev_charging_duplicate_deliveries_total", "something_else")
    assert parse(page).counts == Counts(2, 7, 5, 0, 1.7e9, 14.8)


@pytest.mark.parametrize(
    ("total", "sessions", "seconds"),
    [
        ("14", "4", 3.5),
        ("0", "0", None),
        ("0", "4", None),
        ("14", None, None),
        (None, "4", None),
        ("1e-300", "1e9", None),
    ],
)
def test_session_time_is_the_mean_of_the_histogram(
    total: str | None, sessions: str | None, seconds: float | None
) -> None:
    """The histogram's sum by its count; where either tells nothing, it is not known."""
    page = "ev_charging_load 1\n"
    page += "" if total is None else f"ev_charging_session_seconds_sum {total}\n"
    page += "" if sessions is None else f"ev_charging_session_seconds_count {sessions}\n"
    assert parse(page).session_seconds == seconds


def test_reading_names_the_gauges_on_the_page() -> None:
    """The gauges that are on a page, by their names there, and no others."""
    assert parse(FULL_PAGE).gauges() == {
        "ev_charging_load": 2,
        "ev_charging_connectors": 50,
        "ev_charging_power_kw": 14.8,
        "ev_charging_rated_power_kw": 400,
        "ev_charging_background_power_kw": 0,
    }
    assert Reading(0).gauges() == {"ev_charging_load": 0}


@given(st.one_of(st.text(), st.lists(LINE).map("".join)))
@example("ev_charging_load{\n")
@example('ev_charging_load{a="\\')
@example("ev_charging_load " + "9" * 400)
@example("ev_charging_load 1 " + "9" * 400)
def test_any_text_is_read_or_refused_as_malformed(page: str) -> None:
    """Whatever a page says, the outcome is a sound reading or ``MalformedReading``."""
    try:
        reading = parse(page)
    except MalformedReading:
        return
    figures = [reading.load, *(reading.counts or ())]
    assert all(math.isfinite(each) and each >= 0 for each in figures)
    assert reading.connectors is None or reading.connectors >= 1


@given(st.floats())
def test_reading_accepts_numbers_that_can_be_a_load(value: float) -> None:
    """A number from 0 on is read exactly, as long as one more makes a difference; else refused."""
    page = f"ev_charging_load {value!r}\n"
    if 0 <= value <= 1e15:
        assert parse(page).load == value
    else:
        with pytest.raises(MalformedReading):
            parse(page)


STATION = st.builds(
    Station,
    connectors=st.integers(1, 1000),
    rated_power_kw=st.floats(0, 1e6),
    background_power_kw=st.floats(0, 1e6),
    started_at=st.floats(1, 2e9),
    duplicates=st.integers(0, 5),
)


@given(STATION, st.lists(st.none() | st.floats(0.1, 4000), max_size=20), st.integers(0, 20))
def test_substations_own_page_is_read_back(
    station: Station, powers: list[float | None], finished: int
) -> None:
    """What a substation shows and what the dispatcher reads are the same figures."""
    for number, power in enumerate(powers):
        station.start(f"job{number}", power)
    for number, job in enumerate(list(station.sessions)[:finished]):
        (station.cancel if number % 2 else station.finish)(job, 1009)
    station.cancel("not begun", 1009)
    registry = CollectorRegistry()
    registry.register(StationCollector(station))
    session_seconds(registry).observe(2)
    started = f"process_start_time_seconds {station.started_at!r}\n"
    assert parse(generate_latest(registry).decode() + started) == Reading(
        len(station.sessions),
        station.connectors,
        station.charging_power_kw,
        station.rated_power_kw,
        station.background_power_kw,
        station.counts()._replace(power_kw=station.charging_power_kw),  # an event's is rounded
        session_seconds=2,
    )


@pytest.mark.parametrize(
    "page",
    [
        'ev_charging_load{a="' + '\\"' * 400_000 + '"} 1\n',
        "ev_charging_load{" + 'a="b",' * 160_000 + "} 1\n",
        'other{a="' + '\\"' * 400_000 + '"} 1\nev_charging_load 1\n',
        "".join(f'other{{a="b{number}"}} 1\n' for number in range(50_000)) + "ev_charging_load 1\n",
        " " * 1_000_000,
        "\n" * 1_000_000,
    ],
    ids=["quotes", "labels", "foreign quotes", "foreign samples", "spaces", "lines"],
)
def test_page_made_to_be_slow_is_read_quickly(page: str) -> None:
    """A megabyte of what a parser finds hard does not hold up the dispatcher's loop."""
    began = time.process_time()
    try:
        parse(page)
    except MalformedReading as error:
        assert len(str(error)) < 500  # noqa: PT017
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize(
    ("timestamp", "age"),
    [
        (ASKED_AT, 0),
        (ASKED_AT - 1.5, 1.5),
        (1_395_066_363, ASKED_AT - 1_395_066_363),
        (0, ASKED_AT),
    ],
)
def test_sample_with_a_timestamp_has_its_age(timestamp: float, age: float) -> None:
    """As of when the page was asked for; milliseconds on the page, seconds here."""
    reading = parse(f"ev_charging_load 1 {timestamp * 1000:.0f}\nev_charging_power_kw 7\n")
    assert reading == Reading(1, power_kw=7, ages={"ev_charging_load": age})


@pytest.mark.parametrize("ahead", [0.001, 1, 60])
def test_timestamp_slightly_ahead_counts_as_now(ahead: float) -> None:
    """Clocks differ a little."""
    page = f"ev_charging_load 1 {(ASKED_AT + ahead) * 1000:.0f}\n"
    assert parse(page).ages == {"ev_charging_load": 0}


@pytest.mark.parametrize(
    ("timestamp", "words"),
    [
        (f"{(ASKED_AT + 3600) * 1000:.0f}", "ev_charging_load has a timestamp 3600 s ahead"),
        ("9" * 30, "ahead of the dispatcher's clock: set the clock that is wrong"),
        ("NaN", "a timestamp that is no time"),
        ("+Inf", "a timestamp that is no time"),
        ("-Inf", "a timestamp that is no time"),
        ("9" * 400, "timestamp|not a line"),
    ],
)
def test_timestamp_far_ahead_is_refused(timestamp: str, words: str) -> None:
    """It tells of no age, and unknown is never idle: a page that stands still would look fresh."""
    with pytest.raises(MalformedReading, match=words):
        parse(f"ev_charging_load 1 {timestamp}\n")


def test_counters_have_no_age() -> None:
    """Counters only grow: an old one does no harm."""
    page = "ev_charging_load 1\nev_charging_sessions_accepted_total 7 1000\nother 3 1000\n"
    assert parse(page).ages == {}


@pytest.mark.parametrize(
    "line",
    [
        'ev_charging_info{substation="depot-1"} 1',
        'ev_charging_info{substation="depot-1"} 1.0 1700000000000',
        'ev_charging_info{version="2",substation="depot-1",} 1',
    ],
)
def test_page_names_its_substation_by_an_info_metric(line: str) -> None:
    """By the usual form of a metric that informs; other labels are its own business."""
    assert parse(f"{line}\nev_charging_load 1\n") == Reading(1, substation="depot-1")


@pytest.mark.parametrize(
    "lines",
    [
        'ev_charging_info{substation="a"} 1\nev_charging_info{substation="b"} 1',
        'ev_charging_info{substation="a"} 1\nev_charging_info{substation="a"} 1',
        "ev_charging_info 1",
        'ev_charging_info{station="a"} 1',
        'ev_charging_info{substation=""} 1',
        'ev_charging_info{substation="a.b"} 1',
        'ev_charging_info{substation="a\\n"} 1',
        'ev_charging_info{substation="' + "a" * 65 + '"} 1',
        'ev_charging_info{substation="' + "a" * 2000 + '"} 1',
        'ev_charging_info{substation="a"} 0',
        'ev_charging_info{substation="a"} NaN',
        'ev_charging_info{substation="a"}',
        "ev_charging_info{",
    ],
)
def test_page_with_an_ambiguous_info_metric_is_refused(lines: str) -> None:
    """Whose page it is, is not known then."""
    with pytest.raises(MalformedReading, match="ev_charging_info"):
        parse(f"{lines}\nev_charging_load 1\n")


def test_substations_own_page_names_it_and_keeps_the_load_unlabelled() -> None:
    """``ev_charging_load`` stays one line that a simple reader finds."""
    registry = CollectorRegistry()
    name_page(registry, "depot-1")
    registry.register(StationCollector(Station(2, 400, 0, 1.0)))
    page = generate_latest(registry).decode()
    assert 'ev_charging_info{substation="depot-1"} 1.0' in page.splitlines()
    assert "ev_charging_load 0.0" in page.splitlines()
    assert parse(page).substation == "depot-1"
