"""An api that follows a script: for what the real one cannot be made to do at will."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

HOST = "127.0.0.1"
NAMES = ("substation1", "substation2", "substation3")


class FakeApi:
    """Accepts requests and completes each at once, in turn at three substations.

    ``script`` holds what it says instead, one item a request: a status, or "drop" to break the
    connection. ``lose`` are the numbers of requests, from 0, that never end; ``page`` is the most
    jobs on one page. ``loads`` is what the substations say of themselves, nothing at first.
    """

    def __init__(self, *script: int | str, lose: tuple[int, ...] = (), page: int = 1000) -> None:
        self.url = ""
        self.keys: list[str | None] = []
        self.posts: list[dict[str, Any]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.loads: dict[str, float] | None = None
        self.pages_asked: list[dict[str, str]] = []
        self.singles_asked: list[str] = []
        self._script = deque(script)
        self._lose = lose
        self._page = page

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeApi]:
        """Serve on a free port for as long as the context lasts."""
        app = web.Application()
        app.router.add_post("/charge", self._charge)
        app.router.add_get("/charge/{id}", self._job)
        app.router.add_get("/charges", self._list)
        app.router.add_get("/substations", self._substations)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            yield self
        finally:
            await runner.cleanup()

    def take(self, id: str, **state: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
        """Note a job, completed unless ``state`` says otherwise."""
        now = datetime.now(UTC).isoformat()
        states = ("queued", "assigned", "charging", "completed")
        self.jobs[id] = {
            "id": id,
            "status": "completed",
            "substation": NAMES[len(self.jobs) % 3],
            "attempt": 1,
            "times": dict.fromkeys(states, now),
            "duplicates": 0,
            "request": {"id": id, "requested_at": time.time()},
            "reason": None,
            **state,
        }
        return self.jobs[id]

    async def _charge(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Authorization"))
        self.posts.append({"body": await request.json(), "prefer": request.headers.get("Prefer")})
        says = self._script.popleft() if self._script else 202
        if says == "drop" and request.transport is not None:
            request.transport.abort()
        if says != 202:
            headers = {"Retry-After": "7"} if says == 503 else {}
            problem = {"title": "no", "detail": "scripted"}
            return web.json_response(
                problem, status=int(says) if says != "drop" else 500, headers=headers
            )
        number = len(self.jobs)
        asked = {"requested_at": time.time(), **self.posts[-1]["body"]}
        job = self.take(f"job{number}", request={"id": f"job{number}", **asked})
        if number in self._lose:
            job.update(status="charging", times={**job["times"], "completed": None})
        details = {"routed_to": job["substation"], "loads": dict.fromkeys(NAMES, 0), "reason": None}
        answer = {"id": job["id"], "status": "assigned", "details": details}
        return web.json_response(answer, status=202)

    async def _job(self, request: web.Request) -> web.Response:
        self.singles_asked.append(request.match_info["id"])
        job = self.jobs.get(request.match_info["id"])
        candidates = [{"substation": name, "load": 0.0} for name in NAMES]
        if job is None:
            return web.json_response({"title": "unknown"}, status=404)
        return web.json_response(job | {"decision": {"candidates": candidates}})

    async def _list(self, request: web.Request) -> web.Response:
        self.pages_asked.append(dict(request.query))
        ids = list(self.jobs)
        after, status = request.query.get("after"), request.query.get("status")
        ids = ids[ids.index(after) + 1 :] if after is not None else ids
        found = [self.jobs[one] for one in ids if status in (None, self.jobs[one]["status"])]
        following = found[self._page - 1]["id"] if len(found) > self._page else None
        return web.json_response({"charges": found[: self._page], "next": following})

    async def _substations(self, _: web.Request) -> web.Response:
        known = [{"id": name, "load": 0.0, "connectors": 50, "eligible": True} for name in NAMES]
        if self.loads is None:
            return web.json_response({"as_of": None, "substations": known})
        for each in known:
            each |= {"load": self.loads[str(each["id"])], "gauge_age_seconds": 0.1}
        as_of = datetime.now(UTC).isoformat()
        return web.json_response({"as_of": as_of, "substations": known})
