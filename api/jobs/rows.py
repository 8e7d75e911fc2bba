"""The jobs in their order, with what a list looks for: 24 bytes each, with a reference to its id.

Pure. The vehicle is kept as a checksum: a vehicle's jobs are found among a million in milliseconds,
without an index that would be as large as the jobs. A row is described once somebody looks for a
vehicle or a time: most apis are never asked, and reading a long log must not take longer for it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from zlib import crc32

from api.jobs.job import Job
from grid.detail import Detail
from grid.events import State

START: Final = 0  # before all numbers, in either order
CHECKSUM_BYTES: Final = 4
MAX_SECOND: Final = 2**32
_NO_VEHICLE: Final = bytes(CHECKSUM_BYTES)


class JobQuery(NamedTuple):
    """What a list looks for; None matches any. The times of the requests are Unix seconds.

    ``since`` is included, ``until`` is not, so that lists of two times have no job in common.
    ``search`` is a part of the id or the vehicle, in lower case. ``promised`` is whether a job
    waits for a start that is promised to it.
    """

    statuses: frozenset[State] | None = None
    substation: str | None = None
    vehicle: str | None = None
    since: float | None = None
    until: float | None = None
    newest_first: bool = False
    search: str | None = None
    tenant: str | None = None
    promised: bool | None = None

    @property
    def is_described(self) -> bool:
        """Return whether rows must be described to be found."""
        return any(each is not None for each in (self.vehicle, self.since, self.until))

    def is_at(self, job: Job) -> bool:
        """Return whether a job is in the state and at the substation that are looked for."""
        if self.statuses is not None and job.status not in self.statuses:
            return False
        return self.substation is None or job.substation == self.substation

    def fits(self, job: Job) -> bool:
        """Return whether a job is what is looked for, by all but its state and substation."""
        if self.promised is not None and self.promised is not job.is_promised:
            return False
        if self.vehicle is not None and vehicle_of(job.request) != self.vehicle:
            return False
        if self.search is not None and self.search not in job.id.lower():
            vehicle = vehicle_of(job.request)
            if vehicle is None or self.search not in vehicle.lower():
                return False
        if self.tenant is not None and not _is_of(job, self.tenant):
            return False
        if self.since is None and self.until is None:
            return True
        asked_at = job.asked_at
        return asked_at is not None and self._is_within(asked_at)

    def may_fit(self, second: int) -> bool:
        """Return whether a job may fit that was requested in a second, which is 0 if not known."""
        if not second:
            return True
        if self.since is not None and second + 1 <= self.since:
            return False
        return self.until is None or second < self.until

    def _is_within(self, at: float) -> bool:
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


class Selection(NamedTuple):
    """Rows that may fit, by number and id, and the last number that was looked at.

    ``last`` is None if no row is left.
    """

    found: Sequence[tuple[int, str]]
    last: int | None


class Rows:
    """A row for each job, in the order of their numbers."""

    def __init__(self) -> None:
        self._numbers = array("Q")
        self._ids: list[str] = []
        self._seconds = array("I")  # in which they were requested; 0 if that is not known
        self._vehicles = bytearray()  # four bytes each
        self._described = 0  # how many, from the first one

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def described(self) -> int:
        """Return the number of the last job that is described, 0 if none is."""
        return self._numbers[self._described - 1] if self._described else 0

    @property
    def are_described(self) -> bool:
        """Return whether all are described."""
        return self._described == len(self._ids)

    def append(self, number: int, id: str) -> None:
        """Add a job, whose number is the highest."""
        self._numbers.append(number)
        self._ids.append(id)

    def undescribed(self, max_rows: int) -> Sequence[tuple[int, str]]:
        """Return the next rows that are not described: number and id."""
        begin, end = self._described, self._described + max_rows
        return list(zip(self._numbers[begin:end], self._ids[begin:end], strict=True))

    def describe(self, job: Job) -> None:
        """Record when a job was requested, and for which vehicle.

        It must be described already, or be the next one.
        """
        index = bisect_left(self._numbers, job.number)
        if index == len(self._numbers) or self._numbers[index] != job.number:
            return
        if index == self._described:
            self._seconds.append(0)
            self._vehicles += _NO_VEHICLE
            self._described += 1
        asked_at = job.asked_at
        self._seconds[index] = 0 if asked_at is None or asked_at >= MAX_SECOND else int(asked_at)
        begin = CHECKSUM_BYTES * index
        self._vehicles[begin : begin + CHECKSUM_BYTES] = _checksum(vehicle_of(job.request))

    def only(self, is_wanted: Callable[[int, str], bool]) -> Rows:
        """Return the rows of the jobs that are wanted, by number and id."""
        rows = Rows()
        for index, (number, name) in enumerate(zip(self._numbers, self._ids, strict=True)):
            if is_wanted(number, name):
                rows._numbers.append(number)
                rows._ids.append(name)
                if index < self._described:
                    rows._seconds.append(self._seconds[index])
                    begin = CHECKSUM_BYTES * index
                    rows._vehicles += self._vehicles[begin : begin + CHECKSUM_BYTES]
                    rows._described += 1
        return rows

    def select(self, query: JobQuery, after: int, max_rows: int) -> Selection:
        """Return the rows behind a number, or the ``START``, that may fit, in the query's order.

        At most ``max_rows`` are looked at one by one. To find a vehicle or a time, all must be
        described.
        """
        if query.newest_first:
            begin = 0
            end = len(self) if after == START else bisect_left(self._numbers, after)
        else:  # numbers begin with 1
            begin, end = bisect_right(self._numbers, after), len(self)
        indices = (
            self._range(begin, end, query)
            if query.vehicle is None
            else self._of_vehicle(query.vehicle, begin, end, query)
        )
        found: list[tuple[int, str]] = []
        last, is_described = after, query.is_described
        for looked_at, index in enumerate(indices):
            if looked_at == max_rows:
                return Selection(found, last)
            last = self._numbers[index]
            if not is_described or query.may_fit(self._seconds[index]):
                found.append((last, self._ids[index]))
        return Selection(found, None)

    def _range(self, begin: int, end: int, query: JobQuery) -> Iterator[int]:
        return iter(range(end - 1, begin - 1, -1) if query.newest_first else range(begin, end))

    def _of_vehicle(self, vehicle: str, begin: int, end: int, query: JobQuery) -> Iterator[int]:
        """Yield the rows that have a vehicle's checksum."""
        sum_, size = _checksum(vehicle), CHECKSUM_BYTES
        first, last = size * begin, size * end
        while first < last:
            if query.newest_first:
                found = self._vehicles.rfind(sum_, first, last)
                last = found + size - 1 if found % size else found
            else:
                found = self._vehicles.find(sum_, first, last)
                first = found + 1 if found % size else found + size
            if found < 0:
                return
            if found % size == 0:
                yield found // size


def vehicle_of(request: Mapping[str, Any]) -> str | None:
    """Return the vehicle of a request, by its fields in the event log."""
    found = request.get("vehicle_id")
    return found if isinstance(found, str) else None


def _is_of(job: Job, tenant: str) -> bool:
    """Return whether a job is a tenant's; most others' requests need not be parsed for it."""
    detail = None if job.queued is None else job.queued.detail
    if isinstance(detail, Detail) and not detail.may_have(tenant):
        return False
    return job.request.get("tenant") == tenant


def _checksum(vehicle: str | None) -> bytes:
    if vehicle is None:
        return _NO_VEHICLE
    return crc32(vehicle.encode("utf-8", "surrogatepass")).to_bytes(CHECKSUM_BYTES, "big")
