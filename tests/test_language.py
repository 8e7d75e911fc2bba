"""The project keeps to its own language, and the check of it can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import language


@pytest.mark.parametrize("folder", language.folders(), ids=lambda folder: folder.name)
def test_language_of_each_package_has_no_replaced_word(folder: Path) -> None:
    """``make lint`` prints the same list, with file and line."""
    files = sorted(folder.rglob("*.py"))
    assert files, "the list of packages in pyproject.toml is out of date"
    assert [problem for path in files for problem in language.problems(path)] == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('def f():\n    """Give the load."""', "begins with 'Give'"),
        ('async def f():\n    """Tell whether it is up."""', "begins with 'Tell whether'"),
        ('class A:\n    """Takes a job."""', "begins with 'Takes'"),
        ('"""See to the queue."""', "begins with 'See to'"),
        ('def f():\n    """Let go of it."""', "begins with 'Let go'"),
        ("class Desk: ...", "use ParkedQueue"),
        ("x._ledger = 1", "use tracker"),
        ("HELD_MOST = 3", "use TIMEOUT, INTERVAL, MAX"),
        ("from a import LOOK_SECONDS", "use TIMEOUT, INTERVAL, MAX"),
        ("PATIENCE_SECONDS = 3", "use TIMEOUT, INTERVAL, MAX"),
    ],
)
def test_language_check_finds_a_replaced_word(source: str, words: str) -> None:
    """Each kind of problem is found, with its line."""
    [(line, text)] = language.check(source)
    assert line >= 1
    assert words in text


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """Return the load."""',
        '"""Takeover of requests."""',
        "text = 'ledger'  # the ledger of the docs",
        "MOST_AHEAD = 3",
    ],
)
def test_language_check_accepts_other_words(source: str) -> None:
    """Text and comments are free, and so are words that only contain a replaced one."""
    assert list(language.check(source)) == []


def test_language_check_allows_a_word_only_below_its_path() -> None:
    """A word with another meaning in one package is still found in the others."""
    assert list(language.check("class Account: ...", "tests/faults/accounts.py")) == []
    assert list(language.check("class Account: ...", "tests/faults_of_others.py")) != []
