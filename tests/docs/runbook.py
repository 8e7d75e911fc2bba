"""The runbook as the api serves it: a container has no folder of documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import markdown

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "api" / "runbook.html"
_LINK: Final = re.compile(r'<a href="(?!#|https?:)([^"]+)">(.*?)</a>')


def page() -> str:
    """Return the page without its head; a link to another file becomes that file's name."""
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    content = markdown.markdown(text, extensions=["tables", "fenced_code", "toc"])
    return _LINK.sub(r"\2 (<code>docs/\1</code>)", content) + "\n"
