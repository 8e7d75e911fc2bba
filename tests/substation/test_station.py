from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grid.events import Counts, State
from grid.messages import DEFAULT_POWER_KW
from grid.topology import SUBSTATION_MAX_LENGTH
from substation import station as module
from substation.station import Station


def station(connectors: int = 3) -> Station:
    """Make an empty station."""
    return Station(connectors, 400, 0, 1000.0)


def test_station_counters_and_load_are_of_one_instant() -> None:
    """Load and counters are of one instant, and say which run they are of."""
    one = station()
    one.start("a", 11)
    one.start("b", None)
    one.finish("a", 1009)
    one.start("c", 22)
    one.interrupt("c")
    assert one.counts() == Counts(1, 3, 1, 0, 1000.0, 7.4)
    assert one.charging_power_kw == DEFAULT_POWER_KW
    assert one.end("a") == (State.COMPLETED, 1009)
    assert one.end("b") is None
    assert one.end("c") is None


def test_station_is_full_when_every_connector_is_taken() -> None:
    """Full is exactly as many sessions as connectors."""
    one = station(2)
    assert not one.full
    one.start("a", None)
    assert not one.full
    one.start("b", None)
    assert one.full
    one.finish("a", 1009)
    assert not one.full


def test_station_forgets_the_oldest_completed_jobs() -> None:
    """The oldest are forgotten first."""
    one = station()
    for number in range(module.REMEMBERED + 2):
        one.start(str(number), None)
        one.finish(str(number), 1009)
    assert one.end("1") is None
    assert one.end("2")


def test_station_recognises_a_second_copy_behind_a_full_queue() -> None:
    """One end is remembered while as many end as its queue holds."""
    one = station()
    for number in range(SUBSTATION_MAX_LENGTH + 5):
        one.start(str(number), None)
        one.finish(str(number), 1009)
    assert one.end("0") == (State.COMPLETED, 1009)


@given(st.lists(st.tuples(st.sampled_from(["start", "finish", "interrupt"]), st.integers(0, 9))))
def test_station_load_is_accepted_minus_ended(steps: list[tuple[str, int]]) -> None:
    """Whatever happens, sessions = accepted − completed − interrupted, and power is theirs."""
    one, interrupted = station(10), 0
    for step, number in steps:
        job = f"job{number}"
        if step == "start" and job not in one.sessions:
            one.start(job, 10)
        elif step == "finish" and job in one.sessions:
            one.finish(job, 1009)
        elif step == "interrupt" and job in one.sessions:
            one.interrupt(job)
            interrupted += 1
        assert len(one.sessions) == one.accepted - one.completed - interrupted
        assert one.charging_power_kw == 10 * len(one.sessions)
