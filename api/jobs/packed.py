"""A job packed into few bytes, without its decision. Pure.

What a list filters by comes first, so that most jobs need not be unpacked.
"""

from __future__ import annotations

import zlib
from collections.abc import Container
from struct import Struct
from typing import Final

from api.jobs.job import Job, booked_in
from grid import events
from grid.events import BOOKED, State

_HEAD: Final = Struct("<QBB")  # number, status, length of the substation's name
_COUNTS: Final = Struct("<II")  # attempt and replays, where they are not 0
_HAS_COUNTS: Final = 0x80  # in the byte of the status
_STATES: Final = tuple(State)
_RAW: Final = -15  # zlib without its header and checksum
_ID: Final = b"\0"  # stands for the job's id, which its events repeat; in JSON there is none
# zlib's preset dictionary: what events have in common
_COMMON: Final = (
    b'"departure_time":1790000000.0,"priority":1,"eligible_substations":["substation1"],'
    b'"max_wait_seconds":1800,"tenant":"'
    b'"requested_power_kw":150.0,"replays":1"reason":"cancelled","expired","parked","completed",'
    b'{"kind":"charging","at":1790000000.0,"job":"\0","substation":"substation1","attempt":1}\n'
    b'{"kind":"assigned","at":1790000000.0,"job":"\0","substation":"substation1","attempt":1}\n'
    b'{"kind":"queued","at":1790000000.0,"job":"\0","detail":{"id":"\0","requested_at":1790000000.0,'
    b'"vehicle_id":"EV-","requested_energy_kwh":20.0,"priority":0}}'
)


def pack(job: Job) -> bytes:
    """Return a job without its decision as bytes, to be kept beside its id."""
    where = (job.substation or "").encode()
    body = events.encode(job.events()).replace(job.id.encode(), _ID)
    packer = zlib.compressobj(1, wbits=_RAW, zdict=_COMMON)
    counts = _COUNTS.pack(job.attempt, job.replays) if job.attempt or job.replays else b""
    status = _STATES.index(job.status) | (_HAS_COUNTS if counts else 0)
    head = _HEAD.pack(job.number, status, len(where))
    return b"".join((head, where, counts, packer.compress(body), packer.flush()))


def unpack(id: str, packed: bytes, number: int | None = None) -> Job:
    """Return the job that was packed, with the number ``number`` if that is given."""
    known, status, length = _HEAD.unpack_from(packed)
    begin, attempt, replays = _HEAD.size + length, 0, 0
    if status & _HAS_COUNTS:
        attempt, replays = _COUNTS.unpack_from(packed, begin)
        begin += _COUNTS.size
    unpacker = zlib.decompressobj(wbits=_RAW, zdict=_COMMON)
    body = unpacker.decompress(packed[begin:]).replace(_ID, id.encode())
    job = Job(id, known if number is None else number, attempt=attempt, replays=replays)
    for event in events.decode(body):
        if event.kind != BOOKED:
            job.apply(State(event.kind), event)
        elif (booked := booked_in(event)) is not None:
            job.book(booked)
    return job


def number_of(packed: bytes) -> int:
    """Return the number of a packed job."""
    number: int = _HEAD.unpack_from(packed)[0]
    return number


def matches(packed: bytes, statuses: Container[State] | None, substation: str | None) -> bool:
    """Return whether a packed job is in one of some states and at a substation.

    None matches any.
    """
    _, status, length = _HEAD.unpack_from(packed)
    if statuses is not None and _STATES[status & ~_HAS_COUNTS] not in statuses:
        return False
    start = _HEAD.size
    return substation is None or packed[start : start + length] == substation.encode()
