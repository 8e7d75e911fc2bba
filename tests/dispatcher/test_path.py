"""How much there is to read for whoever follows one request through the dispatcher."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from tests.dispatcher.harness import Harness, body, confirming
from tests.fake_broker import turns

MAX_FILES = 12
MAX_FUNCTIONS = 60


async def test_dispatcher_takes_a_request_through_few_files_and_functions() -> None:
    """From the delivery to the acknowledgement, of a request that finds capacity at once."""
    harness = Harness(confirming(), "s1", "s2", "s3")
    found: set[tuple[str, str]] = set()

    def on_call(frame: FrameType, event: str, _: Any) -> None:  # noqa: ANN401
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("dispatcher."):
            found.add((module, frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(on_call)
    try:
        harness.queue.bring(body("j1"), "j1")
        await turns()
    finally:
        sys.setprofile(before)
    assert harness.queue.acked == [1]
    assert len({module for module, _ in found}) <= MAX_FILES
    assert len(found) <= MAX_FUNCTIONS
