"""The documentation as a site: complete, with links that lead somewhere, and self-contained."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest

from tests.docs.reference import ROOT

BESIDE: Final = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
LINK: Final = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
FENCE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# what a browser loads by itself
LOADED: Final = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?([^\s\">]+)")
FOREIGN: Final = re.compile(r"(?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site, built anew: any broken link or missing page is an error."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_site_has_a_page_for_each_file_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {file.relative_to(site).with_suffix("") for file in site.rglob("*.html")}
    sources = {file.relative_to(ROOT / "docs").with_suffix("") for file in _sources()}
    assert sources <= pages
    for file in site.rglob("*.html"):
        loaded = LOADED.findall(file.read_text(encoding="utf-8"))
        assert [each for each in loaded if FOREIGN.match(each)] == [], file
    for file in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", file.read_text(encoding="utf-8")), (
            file
        )


@pytest.mark.parametrize("name", BESIDE)
def test_links_of_files_beside_the_documentation_lead_somewhere(name: str) -> None:
    text = FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in LINK.findall(text) if not (ROOT / unquote(link)).exists()] == []


def test_pictures_are_used() -> None:
    """A picture that no page shows would grow old unseen."""
    texts = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *_sources()))
    pictures = [file.name for file in (ROOT / "docs").rglob("*.png")]
    assert [name for name in pictures if name not in texts] == []


def _sources() -> Iterator[Path]:
    return (ROOT / "docs").rglob("*.md")
