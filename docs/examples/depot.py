"""A policy of one's own: spread the load over the feeders that the substations hang on.

Copy this file into the project's folder, give each substation in the target file a label
``feeder``, and set ``POLICY=depot.SpreadFeeders``.
"""

from __future__ import annotations

from collections import defaultdict
from random import Random

from scheduling.candidates import Candidates
from scheduling.policies import Pick


class SpreadFeeders:
    """The feeder that draws the least power, and on it the substation with the least load."""

    name = "spread-feeders"

    def pick(self, candidates: Candidates, random: Random) -> Pick:
        """Return a candidate on the feeder with the least power; ties at random."""
        # one without the label hangs on a feeder of its own
        feeders = [
            candidates.labels[name].get("feeder", f"of {name} alone") for name in candidates.names
        ]
        drawn: dict[str, float] = defaultdict(float)
        for feeder, power_kw in zip(feeders, candidates.figures.power_kw.tolist(), strict=True):
            drawn[feeder] += power_kw  # of all its substations, also of those that are full

        def score(number: int) -> tuple[float, float, float]:
            return drawn[feeders[number]], candidates.after[number], random.random()

        number = min(candidates.numbers.tolist(), key=score)
        feeder = feeders[number]
        return Pick(number, f"least power on its feeder {feeder}: {drawn[feeder]:.4g} kW")
