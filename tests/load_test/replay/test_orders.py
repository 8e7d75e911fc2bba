"""Orders side by side, on sessions that come in a rush and leave when they like."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from grid.errors import ConfigurationError
from load_test.central import served
from load_test.hindsight import bound
from load_test.measures import measure
from load_test.replay import virtual
from load_test.replay.orders import BOUND, Comparison, Row, lines
from load_test.replay.plan import Replay
from load_test.replay.sessions import Session
from scheduling.order import ORDERS

HOUR = 3600.0
REPLAY = Replay(speed=3600, charge_speed=3600, power_kw=7.4)


def rush(count: int, seed: int) -> list[Session]:
    """Draw sessions: most come in the morning of their day, and stay for hours."""
    random = Random(seed)  # noqa: S311
    found = []
    for number in range(count):
        arrival = 24 * HOUR * (number // 20) + HOUR * random.gauss(9, 1.5)
        stay = HOUR * random.uniform(0.5, 9)
        found.append(Session(arrival, arrival + stay, random.uniform(1, 30), id=f"s{number}"))
    return sorted(found, key=lambda each: each.arrival)


def compared(sessions: list[Session], connectors: tuple[int, ...], *names: str) -> Comparison:
    """Return a comparison of orders; all of them if none is named."""
    return Comparison(
        REPLAY,
        sessions,
        connectors,
        names or tuple(ORDERS),
        lambda: Random(0),  # noqa: S311
        lambda given, count: bound(given, count, exact=True),
    )


@pytest.mark.parametrize("utilisation", [0.7, 1.1, 1.5])
def test_no_order_reaches_more_than_is_possible(utilisation: float) -> None:
    """And the most demands are met by the order that looks for them."""
    sessions = rush(240, 1)
    most, *reached = compared(sessions, (4,)).rows(utilisation)
    assert most.order == BOUND
    assert [each.order for each in reached] == list(ORDERS)
    for each in reached:
        assert each.utilisation == utilisation
        assert 0 < each.demands_met <= most.demands_met + 1e-6
        assert 0 < each.energy_delivered <= most.energy_delivered + 1e-6
    met = {each.order: each.demands_met for each in reached}
    assert met["deadline"] >= max(met.values()) - 0.02
    assert met["deadline"] > met["fifo"]


@pytest.mark.parametrize("connectors", [(4,), (2, 1, 1)])
def test_fifo_order_is_the_central_queue(connectors: tuple[int, ...]) -> None:
    """One queue in front of all connectors; a vehicle that leaves while it waits is dropped."""
    sessions = rush(200, 2)
    (row,) = replace(compared(sessions, connectors, "fifo"), best=None).rows(None)
    plain = replace(REPLAY, speed=1.0, charge_speed=1.0)
    central = served(virtual.jobs(plain, plain.requests(sessions)), 4)
    same = measure(central, {each.id for each in central}, ())
    assert row.energy_delivered == pytest.approx(same.energy_delivered)
    assert row.fairness_vehicles == pytest.approx(same.fairness_vehicles)
    assert row.mean_wait == pytest.approx(same.mean_wait)
    assert row.longest_wait == pytest.approx(same.longest_wait)
    assert row.demands_met < (same.demands_met or 0.0) + 1e-9 < 1


def test_every_order_gives_the_same_where_there_is_room_for_all() -> None:
    """Nobody waits, and everybody gets all."""
    rows = list(compared(rush(60, 3), (60,)).rows(None))
    for each in rows:
        assert (each.demands_met, each.energy_delivered) == pytest.approx((1, 1))
    assert {each.longest_wait for each in rows} == {None, 0.0}


def test_arrivals_are_stretched_to_the_utilisation() -> None:
    """Twice the utilisation is half the time; as it is, it is what the sessions make of it."""
    sessions = [Session(HOUR * at, HOUR * (at + 1), 7.4) for at in range(11)]
    comparison = replace(compared(sessions, (2,), "fifo"), best=None)
    (as_it_is,) = comparison.rows(None)
    assert as_it_is.utilisation == pytest.approx(11 / 20)
    (stretched,) = replace(comparison, replay=replace(REPLAY, stretch=3.0)).rows(22 / 10)
    assert stretched.utilisation == 22 / 10
    assert stretched.longest_wait == pytest.approx(0.5 * HOUR)
    with pytest.raises(ConfigurationError, match="at one instant: they have no utilisation"):
        list(replace(comparison, sessions=sessions[:1]).rows(1.0))


def test_table_shows_rows_of_one_utilisation_together() -> None:
    """What is unknown is a dash."""
    rows = [
        Row(0.9, BOUND, 1.0, 0.97),
        Row(0.9, "fifo", 0.908, 0.9, 0.95, None, 60.0, 7200.0),
        Row(1.1, "fifo", 0.5, 0.6, 0.7, None, 90.0, 10.0),
    ]
    shown = [" ".join(line.split()) for line in lines(rows)]
    assert shown == [
        "utilisation order demands met energy delivered fairness mean wait longest wait",
        "0.9 at most 100.0 % 97.0 % – – –",
        "fifo 90.8 % 90.0 % 0.950 1.0 min 2.0 h",
        "1.1 fifo 50.0 % 60.0 % 0.700 1.5 min 10.00 s",
    ]
    assert rows[0].as_json()["fairness_vehicles"] is None


def test_table_shows_fairness_among_tenants_where_there_are_some() -> None:
    """Both ask for as much, and half of those of one leave without any."""
    sessions = [
        Session(HOUR * at, HOUR * (at + stay), 7.4, tenant=tenant)
        for at in range(0, 40, 4)
        for stay, tenant in ((4, "buses"), (4, "buses"), (4, "taxis"), (1.5, "taxis"))
    ]
    comparison = replace(compared(sessions, (1,), "laxity"), best=None)
    head, line = lines(rows := list(comparison.rows(None)), tenants=True)
    assert head.split()[-6:] == ["fairness", "tenants", "mean", "wait", "longest", "wait"]
    assert rows[0].fairness_tenants is not None
    assert f"{rows[0].fairness_tenants:.3f}" in line
