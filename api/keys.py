"""The keys of those who may do more than ask, known by their SHA-256 alone. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

from grid.errors import ConfigurationError
from grid.messages import shown

NOBODY: Final = "none"  # the name of who shows no key
FORM: Final = "<name> <scope> <SHA-256 of the key, 64 hexadecimal digits>"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")


class Scope(StrEnum):
    """What a key allows."""

    OPERATOR = "operator"  # to drain and cap substations
    CLIENT = "client"  # to ask for charging, and what became of it


@dataclass(frozen=True, slots=True)
class Key:
    """One line of the file: whose key it is, what it allows, and what it hashes to."""

    name: str
    scope: Scope
    digest: bytes


class Keys:
    """All keys there are."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def have(self, scope: Scope) -> bool:
        """Tell whether any key has this scope."""
        return any(each.scope is scope for each in self._keys)

    def and_those_of(self, other: Keys) -> Keys:
        """Give these keys and the others."""
        return Keys(self._keys + other._keys)

    def of(self, secret: bytes) -> list[Key]:
        """Give the entries of a key, one for each scope it has; none where it is not known.

        Every entry is compared, and takes the same time whatever it holds: that tells nothing.
        """
        digest = sha256(secret).digest()
        return [each for each in self._keys if hmac.compare_digest(each.digest, digest)]


def parse(text: str) -> Keys:
    """Read a file of keys, one a line; empty lines and what follows a ``#`` are passed over.

    Raises ``ConfigurationError`` that names the line. What may be a key itself is never shown.
    """
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return Keys(_key(number, words) for number, words in enumerate(lines, 1) if words)


def parse_some(text: str) -> Keys:
    """Read a file of keys that is to have one: an api without would let nobody in, or everybody.

    Raises ``ConfigurationError`` as ``parse`` does, and where there is none.
    """
    if not (found := parse(text)):
        raise ConfigurationError(f"there is no key in it: a line is {FORM}")
    return found


def _key(number: int, words: list[str]) -> Key:
    if len(words) != FORM.count("<"):
        raise ConfigurationError(f"line {number}: must be {FORM}, got {len(words)} words")
    name, scope, digest = words
    # first of all, since with the words in another order the others may be the key
    if not _DIGEST.fullmatch(digest):
        raise ConfigurationError(
            f"line {number}: the third word must be the SHA-256 of the key, 64 hexadecimal digits "
            f"(printf %s KEY | sha256sum), got {len(digest)} characters"
        )
    if digest.lower() in (sha256(word.encode()).hexdigest() for word in (name, scope)):
        raise ConfigurationError(f"line {number}: the key itself stands there, not just its hash")
    if not _NAME.fullmatch(name) or name == NOBODY:
        raise ConfigurationError(
            f"line {number}: the name must be 1 to 64 letters, digits or . _ - and not {NOBODY}, "
            f"got {shown(name)}"
        )
    if scope not in set(Scope):
        raise ConfigurationError(
            f"line {number}: the scope must be one of {', '.join(Scope)}, got {shown(scope)}"
        )
    return Key(name, Scope(scope), bytes.fromhex(digest))
