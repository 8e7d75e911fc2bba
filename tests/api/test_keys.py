"""The key file: its format, and that no error shows a key."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from api.auth import ApiKeys, Scope, parse_keys
from api.settings import ApiSettings
from grid.errors import ConfigurationError
from grid.settings import parse as parse_settings

SECRET = "kq3-a-key-that-nobody-may-see"  # noqa: S105
DIGEST = sha256(SECRET.encode()).hexdigest()


def found(keys: ApiKeys, secret: str = SECRET) -> list[tuple[str, Scope]]:
    """Return name and scope of each entry of a key."""
    return [(each.name, each.scope) for each in keys.entries_for(secret.encode())]


def test_key_is_found_by_its_hash() -> None:
    """Comments, empty lines and the case of the hash do not matter; other keys are not known."""
    other = sha256(b"other").hexdigest()
    keys = parse_keys(
        f"# keys\n\ndepot operator {DIGEST.upper()} # since May\r\n  fleet client {other}"
    )
    assert found(keys) == [("depot", Scope.OPERATOR)]
    assert found(keys, "other") == [("fleet", Scope.CLIENT)]
    for wrong in ("", SECRET[:-1], SECRET + " ", DIGEST, "depot"):
        assert found(keys, wrong) == []


def test_key_may_have_several_scopes_and_a_name_several_keys() -> None:
    """One line for each, so that a key can be replaced without an interruption."""
    new = sha256(b"new").hexdigest()
    keys = parse_keys(f"a operator {DIGEST}\na client {DIGEST}\na operator {new}")
    assert found(keys) == [("a", Scope.OPERATOR), ("a", Scope.CLIENT)]
    assert found(keys, "new") == [("a", Scope.OPERATOR)]


def test_key_file_without_keys_rejects_every_key() -> None:
    """That is no error; every key is refused."""
    for keys in (parse_keys(""), parse_keys("# nobody yet\n"), ApiKeys()):
        assert not keys
        assert found(keys) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("depot operator", "got 2 words"),
        (f"depot {SECRET}", "got 2 words"),
        (f"the depot operator {DIGEST}", "got 4 words"),
        (f"depot operator {SECRET}", f"SHA-256 of the key.*got {len(SECRET)} characters"),
        (f"depot {SECRET} operator", "SHA-256 of the key"),
        (f"depot operator {DIGEST[:-1]}", "got 63 characters"),
        (f"depot operator {DIGEST[:-1]}g", "SHA-256 of the key"),
        (f"de/pot operator {DIGEST}", "name must be .* got 'de/pot'"),
        (f"depot admin {DIGEST}", "scope must be one of operator, client, got 'admin'"),
        (f"depot OPERATOR {DIGEST}", "got 'OPERATOR'"),
        (f"operator {SECRET} {DIGEST}", "the line has the key itself"),
        (f"{SECRET} operator {DIGEST.upper()}", "the line has the key itself"),
    ],
)
def test_invalid_key_line_is_named_without_showing_a_key(line: str, words: str) -> None:
    """The error has the line's number and the problem, but not the text, which may be the key."""
    with pytest.raises(ConfigurationError, match=f"^line 3: .*{words}") as wrong:
        parse_keys(f"# keys\ndepot operator {DIGEST}\n{line}\n")
    assert SECRET not in str(wrong.value)


def settings(path: Path) -> ApiSettings:
    """Return the settings of an api with this file of keys."""
    return parse_settings(ApiSettings, {"API_KEYS_FILE": str(path)})


def test_api_keys_file_is_read(tmp_path: Path) -> None:
    """Without the variable there are no keys; a file that is wrong is named with its line."""
    path = tmp_path / "keys"
    path.write_text(f"depot operator {DIGEST}\n")
    assert found(settings(path).api_keys()) == [("depot", Scope.OPERATOR)]
    assert not parse_settings(ApiSettings, {}).api_keys()
    path.write_text("depot\n")
    with pytest.raises(ConfigurationError, match=rf"^API_KEYS_FILE={path}: line 1: .*got 1 words"):
        settings(path).api_keys()


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_key_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    """A missing file, and one that is not text."""
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"^API_KEYS_FILE={path}: cannot be read: "):
        settings(path).api_keys()
