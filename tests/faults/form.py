"""The form in which the faults are run: short with all tests, long by `make faults`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random, SystemRandom

from tests.faults.report import Row
from tests.faults.stage import Length


@dataclass(frozen=True, slots=True)
class Form:
    """How the suite is run: by ``FAULTS=long``, ``FAULTS_RATE``, ``FAULTS_SEED``.

    ``rate`` is None if each length has its own, ``seed`` is that of the random moments. ``rows``
    are the lines of the table so far.
    """

    is_long: bool
    rate: float | None
    seed: str
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def asked_for(cls, variables: Mapping[str, str]) -> Form:
        """Read the variables; without a seed, draw one."""
        rate = variables.get("FAULTS_RATE")
        seed = variables.get("FAULTS_SEED") or str(SystemRandom().randrange(10**6))
        is_long = {"": False, "long": True}[variables.get("FAULTS", "")]
        return cls(is_long, float(rate) if rate else None, seed)

    def length(self, short: Length, long: Length) -> Length:
        """Return the length of this form, at the rate that was asked for."""
        length = long if self.is_long else short
        return replace(length, rate=self.rate or length.rate)

    def chance(self, of: str) -> Random:
        """Return the generator of random moments, the same for the same seed."""
        return Random(f"{self.seed} {of}")  # noqa: S311  # moments, not secrets
