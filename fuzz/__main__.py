"""``python -m fuzz [READER …] [--inputs N]``: fuzz the readers, and say what was found."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from fuzz.readers import READERS

INPUTS: Final = 1_000_000
LONGEST: Final = 4096  # bytes of one input
SLOW_SECONDS: Final = 10  # an input that takes longer is a finding
MEMORY_MB: Final = 2048
_LAST: Final = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+)")


class Found(NamedTuple):
    """The result of one reader; ``output`` is libFuzzer's, ``inputs`` are those it kept."""

    inputs: int
    edges: int
    features: int
    clean: bool
    output: str


def fuzz(name: str, inputs: int, folder: Path, seed: int, program: str = "fuzz.one") -> Found:
    """Fuzz one reader in a process of its own; a failing input is left in ``folder``."""
    corpus = folder / name
    corpus.mkdir(parents=True)
    for number, example in enumerate(READERS[name].seeds):
        (corpus / str(number)).write_bytes(example)
    options = {
        "runs": inputs,
        "seed": seed,
        "max_len": LONGEST,
        "timeout": SLOW_SECONDS,
        "rss_limit_mb": MEMORY_MB,
        "artifact_prefix": f"{folder}/{name}-",
    }
    done = subprocess.run(  # noqa: S603
        [
            sys.executable,
            "-m",
            program,
            name,
            *(f"-{option}={value}" for option, value in options.items()),
            str(corpus),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    last = _LAST.search(done.stderr)
    count, edges, features = map(int, last.groups()) if last else (0, 0, 0)
    clean = done.returncode == 0 and last is not None
    return Found(count, edges, features, clean, done.stdout + done.stderr)


def main(arguments: list[str]) -> int:
    """Fuzz the given readers, or all; return 1 as the exit status if any failed."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(READERS))
    parser.add_argument("--inputs", type=int, default=INPUTS, help="for each (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="what chance starts from (%(default)s)")
    wanted = parser.parse_args(arguments)
    if unknown := set(wanted.readers) - READERS.keys():
        parser.error(
            f"no such reader: {', '.join(sorted(unknown))}; there are {', '.join(READERS)}"
        )
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    wrong = 0
    for name in wanted.readers or READERS:
        found = fuzz(name, wanted.inputs, folder, wanted.seed)
        text = "nothing found" if found.clean else f"WRONG: see {folder}\n{found.output[-3000:]}"
        print(  # noqa: T201
            f"{name:9} {found.inputs:>9,} inputs, {found.edges} edges, "
            f"{found.features} features: {text}",
            flush=True,
        )
        wrong += not found.clean
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
