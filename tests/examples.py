"""How many examples of each property are tried: ``make properties`` tries more."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import settings

USUAL: Final = 100  # Hypothesis's own
AT_LEAST: Final = int(os.environ.get("EXAMPLES") or "0")


def examples(usual: int = USUAL) -> settings:
    """Return the settings of a property that is usually tried with so many examples."""
    return settings(deadline=None, max_examples=max(usual, AT_LEAST))
