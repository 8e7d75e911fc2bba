"""A short fuzz of every reader of bytes, and a check that the fuzzer finds errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import __main__ as command
from fuzz.readers import READERS

INPUTS = 3_000


@pytest.mark.parametrize("name", READERS)
def test_fuzzed_readers_return_a_value_or_their_error(name: str, tmp_path: Path) -> None:
    """Thousands of inputs, guided by coverage; `make fuzz` runs a million."""
    found = command.fuzz(name, INPUTS, tmp_path, seed=1)
    assert found.clean, found.output[-3000:]
    assert found.inputs >= INPUTS
    assert found.edges > 20


@pytest.mark.parametrize("name", READERS)
def test_fuzz_examples_are_accepted_by_their_readers(name: str) -> None:
    """Each reader accepts its first example: the fuzz begins with valid input."""
    reader = READERS[name]
    assert reader.read(reader.seeds[0])


def test_fuzz_finds_a_reader_that_raises_another_error(tmp_path: Path) -> None:
    """A reader that raises another error ends the run, and its input is kept."""
    found = command.fuzz("requests", INPUTS, tmp_path, seed=1, program="tests.fuzz.wrong")
    assert not found.clean
    assert "KeyError" in found.output
    assert list(tmp_path.glob("requests-crash-*"))


def test_fuzz_names_an_unknown_reader(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is that of a usage error, and all readers are listed."""
    with pytest.raises(SystemExit) as ended:
        command.main(["nothing"])
    assert ended.value.code == 2
    assert "requests" in capsys.readouterr().err
