"""The page that shows the interface: complete, and loaded from nowhere else."""

from __future__ import annotations

import re
from html import escape

from tests.api.harness import Bench


async def test_docs_page_shows_every_operation_and_loads_nothing() -> None:
    """Each path, method, answer and shape of the document is there; no script, no other address."""
    async with Bench().serve() as api:
        document = (await api.get("/openapi.json")).body
        answer = await api.get("/docs")
        assert answer.status == 200
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                assert f"<b>{method.upper()}</b>{escape(path)}" in answer.body
                assert all(f"<td>{status}</td>" in answer.body for status in operation["responses"])
        assert all(f"<h2>{name}</h2>" in answer.body for name in document["components"]["schemas"])
        assert "<script" not in answer.body
        assert re.findall(r'(?:src|href)="([^"]*)"', answer.body) == ["/openapi.json"]
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "script-src" not in policy
