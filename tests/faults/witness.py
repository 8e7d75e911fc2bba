"""What the substations' own logs tell, for where the event log itself is struck. Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from grid.trace import SAMPLED, Trace

# of a trace whose caller asks for its requests to be recorded: each service then logs each step
RECORDED: Final = Trace(f"{1:032x}", f"{1:016x}", flags=SAMPLED).headers()


def charged(log: str, until: float) -> set[str]:
    """Give the jobs that a substation says it had charged by ``until``, in Unix seconds.

    Of those that were asked for with ``RECORDED``; ``log`` is its log, in JSON.
    """
    told = [json.loads(line) for line in log.splitlines() if '"charged"' in line]
    return {each["job"] for each in told if _unix(each["time"]) <= until}


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
