"""How long a session takes, and what it delivers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid import events
from grid.cancellations import Cancellation
from grid.events import Event, State
from grid.messages import ChargeRequest
from substation.charging import MAX_SECONDS, Charge, planned
from tests.substation.test_worker import AT, LONG, Bench, until


def wanted(energy_kwh: float | None, power_kw: float | None = 10.0) -> ChargeRequest:
    """Return a request for so much energy and power."""
    return ChargeRequest("j1", AT - 1, requested_energy_kwh=energy_kwh, requested_power_kw=power_kw)


@pytest.mark.parametrize(
    ("energy_kwh", "speed", "seconds", "delivered"),
    [
        (20.0, 3600.0, 2.0, 20.0),  # two hours at 10 kW, an hour a second
        (20.0, 1.0, 7200.0, 20.0),
        (20.0, None, 3.0, 20.0),  # whatever the time
        (None, None, 3.0, 10.0 * 3 / 3600),
        (None, 3600.0, 3.0, 30.0),  # three hours of it
    ],
)
def test_planned_session_takes_as_long_as_its_energy(
    energy_kwh: float | None, speed: float | None, seconds: float, delivered: float
) -> None:
    """With a speed and an energy; otherwise as long as was drawn, here 3 s."""
    charge = planned(wanted(energy_kwh), 3.0, speed)
    assert charge.seconds == pytest.approx(seconds)
    assert charge.energy_kwh == pytest.approx(delivered)


def test_planned_session_without_a_power_draws_the_usual_one() -> None:
    """7.4 kW: 7.4 kWh take an hour."""
    assert planned(wanted(7.4, None), 3.0, 1.0).seconds == pytest.approx(3600)


@given(st.floats(0, 4_000, exclude_min=True), st.floats(0, 10_000, exclude_min=True))
def test_planned_session_of_any_request_has_an_end(power_kw: float, energy_kwh: float) -> None:
    """Also of one that draws nearly nothing: its event can be read."""
    charge = planned(wanted(energy_kwh, power_kw), 3.0, 1.0)
    assert 0 <= charge.seconds <= MAX_SECONDS
    event = Event(State.CHARGING, AT, "j1", "s1", 1, ends_at=AT + charge.seconds)
    assert events.decode(events.encode([event])) == [event]


@given(st.floats(0, 100), st.floats(0, 100), st.floats(-1, 200), st.floats(0, 100))
def test_delivered_energy_grows_up_to_all_of_it(
    seconds: float, energy_kwh: float, elapsed: float, later: float
) -> None:
    """Never more than is planned, nor less than before, whatever the clock says."""
    charge = Charge(seconds, energy_kwh)
    first, second = charge.delivered_kwh(elapsed), charge.delivered_kwh(elapsed + later)
    assert 0 <= first <= second <= energy_kwh
    assert charge.delivered_kwh(seconds) == energy_kwh


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 200))
def test_session_ends_when_its_vehicle_leaves(
    seconds: float, energy_kwh: float, stay: float
) -> None:
    """With what it has delivered by then; a vehicle that stays longer changes nothing."""
    charge = Charge(seconds, energy_kwh)
    cut = charge.within(stay)
    assert cut.seconds == min(seconds, stay)
    assert cut.delivered_kwh(cut.seconds) == charge.delivered_kwh(stay)


async def test_worker_completes_a_session_at_the_departure_with_what_it_delivered() -> None:
    """Its hour is cut to 36 ms: the next begins, and the event said so before."""
    bench = Bench(connectors=1, seconds=LONG)
    departs_at = AT + LONG[0] / 100_000
    leaves = ChargeRequest(
        "j1", AT - 1, requested_energy_kwh=10.0, departure_time=departs_at, requested_power_kw=10.0
    )
    bench.queue.bring(leaves.encode(), "j1")
    bench.queue.bring(wanted(10.0).encode().replace(b"j1", b"j2"), "j2")
    await until(lambda: bench.queue.acked == [1])
    charging, _ = bench.publisher.events(State.CHARGING)
    assert charging.ends_at == pytest.approx(departs_at)
    [completed] = bench.publisher.events(State.COMPLETED)
    assert completed.energy_kwh == pytest.approx(10.0 / 100_000)
    assert bench.station.energy_kwh == pytest.approx(10.0 / 100_000)
    assert bench.observed == [pytest.approx(LONG[0] / 100_000)]
    assert list(bench.station.sessions) == ["j2"]
    await bench.worker.stop(0)


async def test_worker_lets_a_session_end_before_the_departure() -> None:
    """Whole, with all its energy, though the vehicle stays."""
    bench = Bench()
    stays = ChargeRequest("j1", AT - 1, requested_energy_kwh=20.0, departure_time=AT + 9_000)
    bench.queue.bring(stays.encode(), "j1")
    await until(lambda: bench.queue.acked == [1])
    [completed] = bench.publisher.events(State.COMPLETED)
    assert completed.energy_kwh == 20.0


async def test_worker_reports_the_energy_of_completed_session() -> None:
    """All that was requested; the station counts it."""
    bench = Bench()
    bench.queue.bring(wanted(20.0).encode(), "j1")
    await until(lambda: bench.queue.acked == [1])
    [completed] = bench.publisher.events(State.COMPLETED)
    assert completed.energy_kwh == 20.0
    assert bench.station.energy_kwh == 20.0


async def test_worker_reports_the_energy_of_interrupted_session() -> None:
    """A quarter of an hour of the hour that it would have taken."""
    bench = Bench(seconds=LONG)
    bench.queue.bring(wanted(10.0).encode(), "j1")
    bench.elapsed = LONG[0] / 4
    await bench.worker.stop(0)
    assert bench.station.energy_kwh == pytest.approx(2.5)


async def test_worker_reports_the_energy_of_cancelled_session() -> None:
    """As much as the time allowed; none for a job that had not begun."""
    bench = Bench(connectors=1, seconds=LONG)
    bench.queue.bring(wanted(10.0).encode(), "j1")
    bench.queue.bring(ChargeRequest("j2", AT - 1).encode(), "j2")
    bench.elapsed = LONG[0] / 2
    for job in ("j2", "j1"):
        bench.worker.cancel(Cancellation(job, bench.at))
    await until(lambda: sorted(bench.queue.acked) == [1, 2])
    energies = {e.job: e.energy_kwh for e in bench.publisher.events(State.CANCELLED)}
    assert energies == {"j1": pytest.approx(5.0), "j2": 0.0}


@pytest.mark.parametrize("step", [-900.0, -1.0, 7_200.0])
async def test_worker_reports_energy_though_the_wall_clock_is_set(step: float) -> None:
    """The delivered energy is that of the time which has passed; events have the clock's time."""
    bench = Bench(seconds=LONG)
    for job in ("j1", "j2"):
        bench.queue.bring(wanted(10.0).encode().replace(b"j1", job.encode()), job)
    bench.elapsed = LONG[0] / 4
    bench.at = AT + step
    bench.worker.cancel(Cancellation("j1", AT))
    await until(lambda: bench.queue.acked == [1])
    [cancelled] = bench.publisher.events(State.CANCELLED)
    assert cancelled.at == AT + step
    assert cancelled.energy_kwh == pytest.approx(2.5)
    await bench.worker.stop(0)
    assert bench.station.energy_kwh == pytest.approx(5.0)
