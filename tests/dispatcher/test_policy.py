"""The setting POLICY: a name of the project's, or the import path of a class of one's own."""

from __future__ import annotations

from random import Random

import pytest

from dispatcher.policy import policy
from grid.errors import ConfigurationError
from scheduling.candidates import Candidates
from scheduling.policies import POLICIES, Pick


class First:
    """A policy of one's own: the first candidate by name."""

    name = "first"

    def pick(self, candidates: Candidates, random: Random) -> Pick:  # noqa: ARG002
        """Return the first candidate."""
        return Pick(int(candidates.numbers[0]), "the first by name")


class Nameless:
    """A class that is no policy."""


class Broken:
    """A policy that cannot be made without arguments."""

    def __init__(self, _: str) -> None: ...


@pytest.mark.parametrize("name", ["least-loaded", "most-headroom"])
def test_policy_is_found_by_its_name(name: str) -> None:
    """These are the names in the documentation."""
    assert policy(name).name == name
    assert list(POLICIES) == ["least-loaded", "most-headroom"]


def test_policy_of_another_package_is_found_by_its_import_path() -> None:
    """A depot adds a policy without a change to the project."""
    assert policy(f"{__name__}.First").name == "first"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lightest", ["'lightest'", "least-loaded, most-headroom", "package.module.Class"]),
        ("", ["''", "least-loaded"]),
        ("no.such.Policy", ["'no.such.Policy'", "No module named"]),
        (f"{__name__}.Missing", ["Missing"]),
        (f"{__name__}.Nameless", ["Nameless", "must have a name and a method pick"]),
        (f"{__name__}.Broken", ["Broken", "cannot be made"]),
        (".", ["'.'", "cannot be made"]),
    ],
)
def test_policy_that_cannot_be_made_is_refused_with_the_reason(name: str, words: list[str]) -> None:
    """The error names the value, and what is allowed."""
    with pytest.raises(ConfigurationError) as refused:
        policy(name)
    assert all(each in str(refused.value) for each in words)
