"""``python -m fuzz.one READER [libFuzzer's options]``: fuzz one reader until an input fails."""

from __future__ import annotations

import sys
from contextlib import suppress

import atheris

# imports in this block are instrumented, so that coverage guides the next inputs
with atheris.instrument_imports(include=["grid", "scheduling", "dispatcher", "prometheus_client"]):
    from fuzz.readers import READERS, Reader


def main(arguments: list[str]) -> None:
    """Run libFuzzer on a reader; it ends the process with a status of its own."""
    name, *options = arguments
    run(name, READERS[name], options)


def run(name: str, reader: Reader, options: list[str]) -> None:
    """Run libFuzzer on this reader."""

    def try_one(data: bytes) -> None:
        with suppress(reader.error):
            reader.read(data)

    atheris.Setup([f"fuzz-{name}", *options], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
