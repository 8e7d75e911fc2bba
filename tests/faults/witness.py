"""What the substations' own logs show, for faults of the event log itself. Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from grid.trace import SAMPLED, Trace

# of a sampled trace: each service then logs each step of its requests
RECORDED: Final = Trace(f"{1:032x}", f"{1:016x}", flags=SAMPLED).headers()


def charged(log: str, until: float) -> set[str]:
    """Return the jobs that a substation logged as charged by ``until``, in Unix seconds.

    Only jobs requested with ``RECORDED`` are logged; ``log`` is the substation's log, in JSON.
    """
    told = [json.loads(line) for line in log.splitlines() if '"charged"' in line]
    return {each["job"] for each in told if _unix(each["time"]) <= until}


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
