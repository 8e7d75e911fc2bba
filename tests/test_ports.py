"""The ports that tests are given: several runs of them stand side by side on one machine."""

from __future__ import annotations

import subprocess
import sys

from tests import ports

CLAIM = "import sys; from tests import ports; print([ports._claim(int(p)) for p in sys.argv[1:]])"


def test_ports_given_to_one_run_are_given_to_no_other() -> None:
    """Nobody listens there yet when another run looks for ports."""
    given = [*ports.free_ports(2), *ports.free_row(2)]
    beside = subprocess.run(  # noqa: S603  # this very interpreter
        [sys.executable, "-c", CLAIM, *map(str, given)], capture_output=True, check=True, text=True
    )
    assert beside.stdout.strip() == str([False] * 4)
    assert len(set(given)) == 4
