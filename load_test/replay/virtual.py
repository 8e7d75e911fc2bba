"""Sessions in virtual time: what the requests of a replay would come to, without a system. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from grid.events import State
from load_test.central import served
from load_test.plans.plan import Request
from load_test.records import Job
from load_test.replay.plan import Replay
from load_test.simulate.scenario import Site
from load_test.whatif.latencies import NONE
from load_test.whatif.replay import World, replayed
from load_test.whatif.table import Column, column

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

FLOOR: Final = "floor"
_ALL: Final = "all connectors"
_ORIGIN: Final = 1_000_000_000.0  # any time in Unix seconds


def jobs(replay: Replay, requests: Iterable[Request]) -> list[Job]:
    """Return the requests as jobs that begin at once, and take as long as planned."""
    found = []
    for each in requests:
        at = _ORIGIN + each.offset
        found.append(
            Job(
                id=f"job{each.number:07}",
                status=State.COMPLETED,
                queued=at,
                assigned=at,
                charging=at,
                ended=at + replay.session_seconds(each),
                requested_kwh=each.body["requested_energy_kwh"],
                power_kw=replay.power_kw,
                tenant=each.body.get("tenant"),
                departs=None if each.stay_seconds is None else at + each.stay_seconds,
            )
        )
    return found


def columns(
    found: Sequence[Job],
    connectors: Sequence[int],
    policies: Sequence[str],
    chance: Callable[[], Random],
    replay: Replay,
) -> list[Column]:
    """Return the figures of the floor, one first-come-first-served queue, and of each policy.

    ``chance`` returns a random generator, the same each time.
    """
    sites = [Site(f"substation{number}", count) for number, count in enumerate(connectors, 1)]
    world = World(sites, NONE, charge_speed=replay.charge_speed)
    speed = replay.speed
    central = [replace(each, substation=_ALL) for each in served(found, sum(connectors))]
    least = column(FLOOR, central, [Site(_ALL, sum(connectors))], speed=speed)
    return [
        replace(least, shares={}),
        *(
            column(name, replayed(found, world, name, chance()), sites, speed=speed)
            for name in policies
        ),
    ]
