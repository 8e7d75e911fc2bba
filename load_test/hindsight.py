"""The best that was possible in hindsight: an upper bound, by linear programming. Needs scipy.

Whoever knows every arrival and departure beforehand, may interrupt sessions, let them go on at any
connector, and share a connector among them, reaches at least what any order reaches. Within a slot
it only counts how long all charge together, and each at most while its vehicle is there. So every
schedule of the real system fits the programme, and its maximum is an upper bound; eligibility and
power limits, which only take away, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from grid.errors import GridError
from load_test.measures import THRESHOLD_KWH, THRESHOLD_SHARE
from load_test.stays import SLOT_SECONDS, Bound, Stay

MAX_VARIABLES: Final = 150_000  # of one programme: what is larger is cut into windows
_ROUNDING: Final = 1e-9
_LEAST_KWH: Final = 1e-9

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


class _Times(NamedTuple):
    """When vehicles come and leave, and how long they charge, in slots."""

    arrival: Numbers
    departure: Numbers
    length: Numbers


class _Piece(NamedTuple):
    """The variables of a programme: how long a vehicle charges in a slot, in slots.

    ``row`` and ``place`` are the vehicle's and the slot's constraints, ``most`` is the time that it
    is there, ``weight`` what a slot of charging is worth, ``rest`` how long it can charge in all.
    """

    row: Indices
    place: Indices
    most: Numbers
    weight: Numbers
    rest: Numbers

    def part(self, chosen: Indices) -> _Piece:
        """Return some of them."""
        row, place, most, weight, rest = self
        return _Piece(row[chosen], place[chosen], most[chosen], weight[chosen], rest[chosen])


def bound(
    stays: Iterable[Stay],
    connectors: int,
    slot_seconds: float = SLOT_SECONDS,
    *,
    exact: bool = False,
) -> Bound | None:
    """Return the most that so many connectors can do for these vehicles; None without any.

    A demand counts as met as in ``measures``, or only as a whole where ``exact``; one that is met
    in part counts in part.
    """
    arrival, departure, seconds, energy = np.array([*stays], dtype=float).reshape(-1, 4).T
    if not len(arrival):
        return None
    # in slots: all numbers of the programme are then near 1, far above the solver's tolerances
    times = _Times(*((each / slot_seconds) for each in (arrival, departure, seconds)))
    ones, mean = np.ones_like(energy), float(energy.mean())
    missing = np.minimum(THRESHOLD_SHARE, THRESHOLD_KWH / np.maximum(energy, _LEAST_KWH))
    needed = times if exact else times._replace(length=times.length * (1 - missing))
    met = _most(needed, ones, connectors) / len(ones)
    delivered = _most(times, energy / mean, connectors) / len(ones) if mean else 1.0
    return Bound(min(1.0, met), min(1.0, delivered))


def _most(times: _Times, worth: Numbers, connectors: int) -> float:
    """Return the highest sum of the vehicles' worth, each times the share that it can charge.

    Only slots in which more vehicles could charge than there are connectors need a decision: in the
    others all do, and a vehicle that can be done in these takes no place in the programme.
    """
    job, place, most = _pieces(times)
    length = times.length
    rest = np.where(np.isinf(times.departure), 0.0, length)
    while True:
        is_open = rest[job] > _ROUNDING
        job, place, most = job[is_open], place[is_open], most[is_open]
        is_free = (np.bincount(place, most) <= connectors)[place]
        if not is_free.any():
            break
        rest -= np.bincount(job[is_free], most[is_free], len(rest))
        job, place, most = job[~is_free], place[~is_free], most[~is_free]
    rest = np.maximum(rest, 0.0)
    weight = np.divide(worth, length, out=np.zeros_like(worth), where=length > 0)
    pieces = _Piece(_rows(job, place), place, np.minimum(most, rest[job]), weight[job], rest[job])
    found = sum(_solved(each, connectors) for each in _components(pieces))
    return float(np.sum(worth - weight * rest)) + found


def _pieces(times: _Times) -> tuple[Indices, Indices, Numbers]:
    """Return each vehicle's slots: its number, the slot's, and how much of that it is there.

    A vehicle that stays for ever has none.
    """
    start = times.arrival.min()
    arrival, departure = times.arrival - start, times.departure - start
    known = np.isfinite(departure) & (departure > arrival)
    first = np.floor(arrival).astype(np.int64)
    counts = np.where(known, np.ceil(np.where(known, departure, 0.0)) - first, 0).astype(np.int64)
    job = np.repeat(np.arange(len(arrival)), counts)
    place = first[job] + np.arange(len(job)) - np.repeat(np.cumsum(counts) - counts, counts)
    most = np.minimum(departure[job], place + 1.0) - np.maximum(arrival[job], place)
    return job, place, most


def _rows(job: Indices, place: Indices) -> Indices:
    """Return the constraint for what each piece's vehicle can still charge.

    There is one for each vehicle. Of very many pieces, time is cut into windows where the fewest
    vehicles stay across, and these get one in each window: that allows more, and never less.
    """
    if len(job) > MAX_VARIABLES:
        job = job * (1 + place.max()) + _windows(job, place)
    return np.unique(job, return_inverse=True)[1]


def _windows(job: Indices, place: Indices) -> Indices:
    """Return the number of each piece's window."""
    # the pieces are ordered by vehicles, and those of a vehicle by slots
    at = np.flatnonzero(np.diff(job, prepend=-1))
    first, last = place[at], place[np.append(at[1:], len(job)) - 1]
    sizes = np.bincount(place)
    across = np.bincount(first + 1, minlength=len(sizes) + 1)
    across -= np.bincount(last + 1, minlength=len(sizes) + 1)
    across = np.cumsum(across)  # vehicles that are there in the slot and before
    before = np.cumsum(sizes) - sizes
    cuts = [0]
    while before[-1] - before[cuts[-1]] > MAX_VARIABLES:
        size = before - before[cuts[-1]]
        lowest = int(np.searchsorted(size, MAX_VARIABLES // 2, "right"))
        highest = max(lowest + 1, int(np.searchsorted(size, MAX_VARIABLES, "right")))
        cuts.append(lowest + int(np.argmin(across[lowest:highest])))
    return np.searchsorted(np.array(cuts), place, "right")


def _components(pieces: _Piece) -> Iterator[_Piece]:
    """Yield the pieces that belong together, by vehicles or by slots."""
    if not len(pieces.row):
        return
    rows = int(pieces.row.max()) + 1
    nodes = rows + int(pieces.place.max()) + 1
    ones = np.ones(len(pieces.row))
    links = csr_array((ones, (pieces.row, rows + pieces.place)), shape=(nodes, nodes))
    which = connected_components(links, directed=False)[1][pieces.row]
    order = np.argsort(which, kind="stable")
    for each in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        yield pieces.part(each)


def _solved(pieces: _Piece, connectors: int) -> float:
    """Return the maximum of the linear programme over these pieces."""
    of_row, of_place = (np.unique(each, return_inverse=True)[1] for each in pieces[:2])
    rows, slots, count = int(of_row.max()) + 1, int(of_place.max()) + 1, len(of_row)
    limits = np.full(rows + slots, float(connectors))
    limits[of_row] = pieces.rest
    where = np.concatenate([of_row, rows + of_place]), np.tile(np.arange(count), 2)
    matrix = csr_array((np.ones(2 * count), where), shape=(rows + slots, count))
    limit = np.column_stack([np.zeros(count), pieces.most])
    found = linprog(-pieces.weight, A_ub=matrix, b_ub=limits, bounds=limit)
    if not found.success:
        raise GridError(f"the linear programme of {count} variables failed: {found.message}")
    return -float(found.fun)
