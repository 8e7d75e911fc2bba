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
            "waiting": ("Jobs brought while every connector is taken", station.waiting),
            "connectors": ("Vehicles that can charge at once", station.connectors),
            "power_kw": ("Power all sessions draw together, in kW", station.charging_power_kw),
            "rated_power_kw": ("Power the transformer is built for, in kW", station.rated_power_kw),
            "background_power_kw": (
                "Power other consumers draw from the same transformer, in kW",
                station.background_power_kw,
            ),
        }
        counters = {
            "sessions_accepted": ("Charging sessions begun", station.accepted),
            "sessions_completed": ("Charging sessions completed", station.completed),
            "expired_deliveries": (
                "Jobs not charged since their vehicle had left before its turn came",
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
        "Time a completed session took",
        buckets=BUCKETS,
        registry=registry,
    )
