"""API keys, known by their SHA-256 alone. Pure."""

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

NOBODY: Final = "none"  # the name for requests without a key
FORM: Final = "<name> <scope> <SHA-256 of the key, 64 hexadecimal digits>"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")


class Scope(StrEnum):
    """What a key allows."""

    OPERATOR = "operator"  # to drain and cap substations
    CLIENT = "client"  # to request charging, and follow the jobs


@dataclass(frozen=True, slots=True)
class Key:
    """One line of the file: whose key it is, what it allows, and what it hashes to."""

    name: str
    scope: Scope
    digest: bytes


class Keys:
    """A set of API keys."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def have(self, scope: Scope) -> bool:
        """Return whether any key has this scope."""
        return any(each.scope is scope for each in self._keys)

    def and_those_of(self, other: Keys) -> Keys:
        """Return these keys and the others together."""
        return Keys(self._keys + other._keys)

    def of(self, secret: bytes) -> list[Key]:
        """Return the entries of a key, one for each scope it has; none if it is not known.

        Every entry is compared in constant time, so that the timing reveals nothing.
        """
        digest = sha256(secret).digest()
        return [each for each in self._keys if hmac.compare_digest(each.digest, digest)]


def parse(text: str) -> Keys:
    """Read a file of keys, one a line; empty lines and what follows a ``#`` are ignored.

    Raise ``ConfigurationError`` that names the line, but never shows what may be a key itself.
    """
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return Keys(_key(number, words) for number, words in enumerate(lines, 1) if words)


def parse_some(text: str) -> Keys:
    """Read a file that must hold a key: without one, an api would admit nobody, or everybody.

    Raise ``ConfigurationError`` as ``parse`` does, and if there is no key.
    """
    if not (found := parse(text)):
        raise ConfigurationError(f"there is no key in it: a line is {FORM}")
    return found


def _key(number: int, words: list[str]) -> Key:
    if len(words) != FORM.count("<"):
        raise ConfigurationError(f"line {number}: must be {FORM}, got {len(words)} words")
    name, scope, digest = words
    # checked first: if the words are in another order, one of the others may be the key
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
