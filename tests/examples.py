"""How many examples of a property are tried, and how many jobs are simulated, by ``EXAMPLES``.

Unset, as for ``make test``: as many as each test names. A number, as for ``make properties``: so
many examples at least. ``few``, as for ``make test-fast``: a fraction.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

USUAL: Final = 100  # Hypothesis's own
FEW: Final = 5  # times fewer
WANTED: Final = os.environ.get("EXAMPLES", "")
ARE_FEW: Final = WANTED == "few"
AT_LEAST: Final = 1 if ARE_FEW else int(WANTED or "1")


def examples(usual: int = USUAL) -> settings:
    """Return the settings of a property that is usually tried with so many examples."""
    number = usual // FEW if ARE_FEW else max(usual, AT_LEAST)
    # a busy machine may take any time over one example; pytest's own limit ends what hangs
    slow = [HealthCheck.too_slow]
    return settings(deadline=None, max_examples=number, suppress_health_check=slow)


def jobs(usual: int, least: int = 0) -> int:
    """Return how many jobs to simulate, where usually so many are, and fewer would say nothing."""
    return max(usual // FEW, least) if ARE_FEW else usual
