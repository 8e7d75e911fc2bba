"""Whatever may happen to substations: rows, and changes one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from hypothesis import strategies as st
from msgspec.structs import replace as replace_struct

from grid.controls import Availability
from grid.events import Counts
from scheduling.candidates import CandidateTable
from scheduling.readings import Reading
from tests.scheduling.tables import CLOSED, NOW, RUN, Row, read, table_of

NAMES = ("a", "b", "c", "d")
POWERS = st.sampled_from([0.1, 3.7, 7.4, 11, 22.2, 50]) | st.floats(0.1, 400)
NAMED = st.lists(st.sampled_from([*NAMES, "nowhere"]), max_size=3, unique=True)

BLOCKS = st.sampled_from(
    [(), (), ((-1.0, 1.0, 30.0),), ((0.0, 1.0, 0.0), (1.0, 2.5, 40.0)), ((0.5, 3.0, 8.0),)]
)
_ROW = st.builds(
    Row,
    name=st.just(""),
    load=st.integers(0, 12).map(float) | st.floats(0, 12),
    places=st.integers(1, 12).map(float),
    in_flight_kw=st.lists(POWERS, max_size=3).map(tuple),
    rated=st.none() | st.sampled_from([0, 22, 50, 150, 400]) | st.floats(0.01, 500),
    power=st.none() | st.floats(0, 100),
    background=st.none() | st.floats(0, 100),
    observations=st.booleans(),
    session=st.none() | st.floats(0.5, 10),
    limit=st.none() | st.integers(1, 12),
    blocks=BLOCKS,
    fallback_kw=st.sampled_from([None, None, 60.0]),
    consumers=st.sampled_from([None, 0, 1, 1, 1]),
    closed=st.sampled_from(["", "", "", *CLOSED]),
)
TABLES = st.lists(_ROW, min_size=1, max_size=4).map(
    lambda rows: [replace(row, name=name) for row, name in zip(rows, NAMES, strict=False)]
)


SLOW_START = 4.0  # seconds


@dataclass
class World:
    """Two healthy substations, and the time; each of ``CHANGES`` makes something happen."""

    now: float = NOW
    table: CandidateTable = field(
        default_factory=lambda: table_of(Row("a"), Row("b"), slow_start=SLOW_START)
    )
    version: int = 0


Change = Callable[[World], None]


def _on(name: str, row: Row, what: str) -> Change:
    def change(world: World) -> None:
        if name in world.table.tracker.substations:
            _HEARD[what](world, replace(row, name=name, closed=""))

    return change


def _half_read(world: World, row: Row) -> None:
    """Read a page without power and rating, perhaps of a new run."""
    counts = Counts(row.load, row.load, 0, 0, RUN + row.places) if row.observations else None
    world.table.tracker.read(row.name, Reading(row.load, counts=counts), world.now)


def _event(world: World, row: Row) -> None:
    counts = Counts(row.load, row.load + row.places, row.places, 0, RUN, row.power)
    world.table.tracker.report(row.name, counts)


def _control(world: World, row: Row) -> None:
    world.version += 1
    state = Availability.DRAINING if row.observations else Availability.AVAILABLE
    control = replace_struct(row.control, state=state, version=world.version)
    world.table.tracker.control(row.name, control)


_HEARD: Final[Mapping[str, Callable[[World, Row], None]]] = {
    "read": lambda world, row: read(world.table.tracker, row, world.now),
    "half-read": _half_read,
    "event": _event,
    "fail": lambda world, row: world.table.tracker.fail(row.name, "no answer", world.now),
    "refuse": lambda world, row: world.table.tracker.refuse(row.name, "unroutable", world.now),
    "queue": lambda world, row: world.table.tracker.queued(row.name, row.load, row.consumers or 0),
    "control": _control,
    "let go": lambda world, row: world.table.tracker.invalidate_baseline(row.name),
    "send": lambda world, row: world.table.tracker.dispatch(row.name, world.now, row.places),
    "undo": lambda world, row: world.table.tracker.undo(row.name),
}


def _keep(names: str) -> Change:
    return lambda world: world.table.tracker.keep(dict.fromkeys(names))


def _pass(seconds: float) -> Change:
    def change(world: World) -> None:
        world.now += seconds

    return change


# such as mostly have room, so that it shows what else closes them
_LIGHT = st.builds(
    Row,
    name=st.just(""),
    load=st.integers(0, 3).map(float),
    places=st.sampled_from([2.0, 10.0]),
    rated=st.sampled_from([None, None, 100.0]),
    observations=st.booleans(),
    session=st.sampled_from([None, 2.0]),
    limit=st.sampled_from([None, None, 3]),
    blocks=BLOCKS,
    consumers=st.sampled_from([0, 1, 1]),
)
CHANGES = st.lists(
    st.builds(_on, st.sampled_from("aabbc"), _LIGHT, st.sampled_from(["read", "read", *_HEARD]))
    | st.builds(_pass, st.sampled_from([0.1, 1.1, 2.1]))
    | st.builds(_keep, st.sampled_from(["ab", "ab", "abc", "b", "c", ""])),
    min_size=5,
    max_size=30,
)


def after_each(changes: Iterable[Change]) -> Iterator[World]:
    """Return one world again and again, after each of the changes to it."""
    world = World()
    for change in changes:
        change(world)
        yield world
