"""The page that shows the interface: a standard viewer, and nothing loaded from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

from api import docs
from tests.api.harness import Bench

ROOT = Path(__file__).parents[2]


async def test_docs_page_loads_its_own_files_alone() -> None:
    """Each file it names is served by the api, with keys required too; no address is foreign."""
    async with Bench(closed=True).serve() as api:
        answer = await api.get("/docs")
        assert answer.status == 200
        found = re.findall(r'(?:src|href)="([^"]*)"', answer.body)
        assert set(found) == {*(f"/docs/{name}" for name in docs.KINDS), "/openapi.json"}
        for path in found:
            file = await api.get(path)
            assert file.status == 200, path
            assert file.body
        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "connect-src 'self'" in policy
        assert not re.search(r"https?:", answer.headers["Content-Security-Policy"])


async def test_viewer_files_have_their_kinds_and_are_cached() -> None:
    """A browser takes no script that is declared as something else; 1.7 MB are not loaded anew."""
    async with Bench().serve() as api:
        for name, kind in docs.KINDS.items():
            answer = await api.get(f"/docs/{name}")
            assert answer.headers["Content-Type"].startswith(kind)
            assert answer.headers["Cache-Control"] == "max-age=3600"
        for name in ("LICENSE", "nothing", "..%2fapp.py", "README.md"):
            assert (await api.get(f"/docs/{name}")).status == 404


async def test_runbook_has_a_section_for_each_alert_to_link_to() -> None:
    """With keys required too, and without links to files that the api does not serve."""
    alerts = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    wanted = re.findall(r"externalLabels[.]runbook }}(#[a-z]+)", alerts)
    assert "#jobsreclaimed" in wanted
    async with Bench(closed=True).serve() as api:
        answer = await api.get("/docs/runbook")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/html")
        assert [each for each in wanted if f'id="{each[1:]}"' not in answer.body] == []
        assert re.findall(r'href="(?!#|https?:)[^"]*', answer.body) == []


def test_viewer_has_its_licence() -> None:
    """It is another project's work."""
    assert "Apache License" in (docs.FOLDER / "LICENSE").read_text(encoding="utf-8")
