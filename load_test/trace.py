"""Arrivals and durations from a table of charging sessions instead of random ones. Pure.

A table is CSV with a header: either ``arrival_seconds,duration_seconds``, or sessions as in
ACN-Data, whose durations follow from the power at a connector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from grid.errors import ConfigurationError
from load_test.replay import sessions
from load_test.simulate.scenario import Trace, check_utilisation
from load_test.tables import Row, number, rows

if TYPE_CHECKING:
    from random import Random

PLAIN: Final = ("arrival_seconds", "duration_seconds")
ACN: Final = ("arrival", "departure", "delivered_energy (kWh)")
DEFAULT_POWER_KW: Final = 7.4  # one phase at 32 A


@dataclass(frozen=True, slots=True)
class Traced:
    """The jobs of a table, and their utilisation, None if all arrive at one instant.

    ``stays`` is how long each vehicle stays, in s; None if all stay until they are charged.
    """

    given: Trace
    utilisation: float | None
    stays: Sequence[float] | None = None

    @property
    def jobs(self) -> int:
        """Return how many jobs there are."""
        return len(self.given.arrivals)

    @property
    def session(self) -> float:
        """Return the mean session time, in seconds."""
        return fmean(self.given.durations)

    def trace(self, connectors: int, random: Random) -> Trace:  # noqa: ARG002  # as a Demand does
        """Return arrivals and durations; nothing is random."""
        return self.given

    def as_json(self) -> dict[str, Any]:
        """Return its parameters, ready for JSON."""
        return {
            "jobs": self.jobs,
            "utilisation": self.utilisation,
            "session_seconds": self.session,
        }


def traced(
    given: Trace,
    connectors: int,
    utilisation: float | None = None,
    stays: Sequence[float] | None = None,
) -> Traced:
    """Return the jobs for so many connectors in all, unchanged or at that utilisation.

    For the latter, the times between arrivals are multiplied by one factor. Utilisation is the time
    of all sessions, divided by that of all connectors between the first arrival and the last; it is
    below 1 unless vehicles leave. Raise ``ConfigurationError`` if that is not possible.
    """
    offered = _offered(given, connectors)
    if utilisation is None:
        return Traced(given, offered, stays)
    check_utilisation(utilisation, inf if stays is not None else 1.0)
    if offered is None:
        raise ConfigurationError("all jobs arrive at one instant: they have no utilisation")
    factor = offered / utilisation
    arrivals = [at * factor for at in given.arrivals]
    return Traced(given._replace(arrivals=arrivals), utilisation, stays)


def parse(text: str, power_kw: float = DEFAULT_POWER_KW, jobs: int | None = None) -> Trace:
    """Read a table; the first arrival is at 0, and only the first ``jobs`` are kept, or all.

    A session of ACN-Data charges the energy delivered at ``power_kw``, and at most until the
    vehicle leaves. A time without its offset from UTC is taken as UTC. Raise ``ConfigurationError``
    with the line and the value that is wrong.
    """
    found = _read(text, power_kw, jobs)
    return Trace(
        [each.arrival - found[0].arrival for each in found], [each.seconds for each in found]
    )


def stays(
    text: str, power_kw: float = DEFAULT_POWER_KW, jobs: int | None = None
) -> list[float] | None:
    """Return how long the vehicle of each job stays, as ``parse`` returns the jobs.

    None if the table does not say.
    """
    found = [each.stay for each in _read(text, power_kw, jobs)]
    return None if inf in found else found


class _Charged(NamedTuple):
    arrival: float
    seconds: float
    stay: float = inf


def _read(text: str, power_kw: float, jobs: int | None) -> list[_Charged]:
    if not (isfinite(power_kw) and power_kw > 0):
        raise ConfigurationError(f"power must be above 0 kW, got {power_kw:g}")
    if jobs is not None and jobs < 1:
        raise ConfigurationError(f"jobs must be at least 1, got {jobs}")
    read = rows(text, lambda names: _reader(names, power_kw))
    found = sorted(read, key=lambda session: session.arrival)[:jobs]
    if not any(each.seconds for each in found):
        raise ConfigurationError("there is no session in it that takes any time")
    return found


def _offered(given: Trace, connectors: int) -> float | None:
    span = given.arrivals[-1] - given.arrivals[0]
    return sum(given.durations) / (span * connectors) if span else None


def _reader(names: tuple[str, ...], power_kw: float) -> Callable[[Row], _Charged]:
    if set(PLAIN) <= set(names):
        return _plain
    if set(ACN) <= set(names):
        session = sessions.reader(sessions.places(names, {}))
        return lambda row: _charged(session(row), power_kw)
    ways = " nor ".join(", ".join(columns) for columns in (PLAIN, ACN))
    raise ConfigurationError(f"it has neither the columns {ways}: {', '.join(names) or 'none'}")


def _plain(row: Row) -> _Charged:
    arrival, duration = PLAIN
    return _Charged(number(row, arrival), number(row, duration))


def _charged(session: sessions.Session, power_kw: float) -> _Charged:
    return _Charged(session.arrival, session.charge_seconds(power_kw), session.stay_seconds)
