"""A substation's metrics page: all read from the station at the instant it is requested."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from substation.station import Station

BUCKETS = (0.1, 0.25, 0.5, 1, 2, 2.5, 3, 3.5, 4, 4.5, 5, 10, 30, 60, 300, 1800, 7200)


class StationCollector(Collector):
    """A collector of the station's gauges and counters, as Prometheus reads them."""

    def __init__(self, station: Station) -> None:
        self._station = station

    def collect(self) -> Iterable[Metric]:
        """Yield the figures of this instant."""
        station = self._station
        gauges = {
            "load": ("Charging sessions in progress", len(station.sessions)),
            "waiting": ("Jobs delivered that wait for a free connector", station.waiting),
            "connectors": ("Vehicles that can charge at once", station.connectors),
            "power_kw": ("Power drawn by all sessions together, in kW", station.charging_power_kw),
            "rated_power_kw": ("Rated power of the transformer, in kW", station.rated_power_kw),
            "background_power_kw": (
                "Power drawn by other consumers from the same transformer, in kW",
                station.background_power_kw,
            ),
        }
        counters = {
            "sessions_accepted": ("Charging sessions begun", station.accepted),
            "sessions_completed": ("Charging sessions completed", station.completed),
            "energy_kwh": ("Energy delivered by all sessions, in kWh", station.energy_kwh),
            "sessions_cancelled": (
                "Charging sessions that were cancelled",
                station.cancelled,
            ),
            "cancelled_deliveries": (
                "Jobs not charged because their clients had cancelled them",
                station.cancelled_deliveries,
            ),
            "expired_deliveries": (
                "Jobs not charged because their departure or longest wait had passed",
                station.expired,
            ),
            "duplicate_deliveries": (
                "Second copies of a job, acknowledged without charging again",
                station.duplicates,
            ),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"ev_charging_{name}", text, value)
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(f"ev_charging_{name}", text, value)


def name_page(registry: CollectorRegistry, substation: str) -> None:
    """Add the substation's id to the page: a reader may have another substation's address."""
    Info("ev_charging", "The substation whose page this is", registry=registry).info(
        {"substation": substation}
    )


def session_seconds(registry: CollectorRegistry) -> Histogram:
    """Return the histogram of how long completed sessions took, in seconds."""
    return Histogram(
        "ev_charging_session_seconds",
        "Duration of completed sessions",
        buckets=BUCKETS,
        registry=registry,
    )
