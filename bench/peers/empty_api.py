"""Routes of the api's shape that publish nothing: ``PORT=… python -m bench.peers.empty_api``.

``POST /charge`` and ``POST /charges`` on FastAPI, with the project's own models in and out, the
same HTTP parser and the same thresholds of the garbage collector.

It leaves out everything but that: RabbitMQ, the event log, keys, limits, idempotency, problem
documents, traces and metrics.
"""

from __future__ import annotations

import gc
import os
import time
from uuid import uuid4

import uvicorn
from fastapi import FastAPI

from api.schemas import ChargeIn
from bench.peers.answers import Accepted, AcceptedList, Details
from grid.events import State
from grid.runtime import YOUNG_OBJECTS

app = FastAPI()


def _accepted(wanted: ChargeIn) -> Accepted:
    request = wanted.request(uuid4().hex, time.time(), wanted.tenant)
    details = Details(routed_to=None, loads={}, reason=None)
    return Accepted(id=request.id, status=State.QUEUED, details=details)


@app.post("/charge", status_code=202)
async def charge(wanted: ChargeIn) -> Accepted:
    """Answer one request."""
    return _accepted(wanted)


@app.post("/charges", status_code=202)
async def charges(wanted: list[ChargeIn]) -> AcceptedList:
    """Answer a list of requests."""
    return AcceptedList(jobs=[_accepted(each) for each in wanted])


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    uvicorn.run(
        app,
        port=int(os.environ["PORT"]),
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
    )
