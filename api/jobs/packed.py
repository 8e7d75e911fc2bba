"""A job packed into few bytes, without its decision. Pure.

What a list filters by comes first, so that most jobs need not be unpacked.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import Final

from api.jobs.job import Job
from grid import events
from grid.events import State

_HEAD: Final = Struct("<QIIBB")  # number, attempt, replays, status, length of the substation's name
_STATES: Final = tuple(State)
_RAW: Final = -15  # zlib without its header and checksum
_ID: Final = b"\0"  # stands for the job's id, which its events repeat; in JSON there is none
# zlib's preset dictionary: what events have in common
_COMMON: Final = (
    b'"departure_time":1790000000.0,"priority":1,"eligible_substations":["substation1"]'
    b'"requested_power_kw":150.0,"replays":1"reason":"cancelled","expired","parked","completed",'
    b'{"kind":"charging","at":1790000000.0,"job":"\0","substation":"substation1","attempt":1}\n'
    b'{"kind":"assigned","at":1790000000.0,"job":"\0","substation":"substation1","attempt":1}\n'
    b'{"kind":"queued","at":1790000000.0,"job":"\0","detail":{"id":"\0","requested_at":1790000000.0,'
    b'"vehicle_id":"EV-","requested_energy_kwh":20.0}}'
)


def pack(job: Job) -> bytes:
    """Return a job without its decision as bytes, to be kept beside its id."""
    where = (job.substation or "").encode()
    body = events.encode(job.events()).replace(job.id.encode(), _ID)
    packer = zlib.compressobj(1, wbits=_RAW, zdict=_COMMON)
    head = _HEAD.pack(job.number, job.attempt, job.replays, _STATES.index(job.status), len(where))
    return b"".join((head, where, packer.compress(body), packer.flush()))


def unpack(id: str, packed: bytes, number: int | None = None) -> Job:
    """Return the job that was packed, with the number ``number`` if that is given."""
    known, attempt, replays, _, length = _HEAD.unpack_from(packed)
    unpacker = zlib.decompressobj(wbits=_RAW, zdict=_COMMON)
    body = unpacker.decompress(packed[_HEAD.size + length :]).replace(_ID, id.encode())
    job = Job(id, known if number is None else number, attempt=attempt, replays=replays)
    for event in events.decode(body):
        job.apply(State(event.kind), event)
    return job


def number_of(packed: bytes) -> int:
    """Return the number of a packed job."""
    number: int = _HEAD.unpack_from(packed)[0]
    return number


def matches(packed: bytes, status: State | None, substation: str | None) -> bool:
    """Return whether a packed job is in a state and at a substation; None matches any."""
    _, _, _, state, length = _HEAD.unpack_from(packed)
    if status is not None and _STATES[state] is not status:
        return False
    start = _HEAD.size
    return substation is None or packed[start : start + length] == substation.encode()
