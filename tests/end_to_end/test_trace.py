from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.broker import VirtualHost
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
JSON = {**QUICK, "LOG_FORMAT": "json"}


def told(system: System, name: str, trace: str) -> list[dict[str, Any]]:
    """Return the log lines of a service that belong to a trace."""
    lines = [json.loads(line) for line in system.log(name).splitlines()]
    return [line for line in lines if line.get("trace_id") == trace]


def test_one_request_is_found_in_every_log(vhost: VirtualHost, tmp_path: Path) -> None:
    """By the caller's trace and the job's id; each service's span is a child of the one before."""
    with System(vhost, tmp_path, environment=JSON) as system:
        parent = f"00-{TRACE}-{SPAN}-01"
        status, answer = system.post({}, traceparent=parent, tracestate="vendor=1")
        assert status == 202
        system.wait_completed({answer["id"]})
        where = answer["details"]["routed_to"]
        system.until(lambda: len(told(system, where, TRACE)) == 2, "the substation told of it")
        [taken] = told(system, "api", TRACE)
        [sent] = told(system, "dispatcher", TRACE)
        charging, charged = told(system, where, TRACE)
        assert {line["job"] for line in (taken, sent, charging, charged)} == {answer["id"]}
        assert [line["message"] for line in (taken, charging, charged)] == [
            "accepted",
            "charging",
            "charged",
        ]
        assert (sent["substation"], charging["substation"]) == (where, where)
        assert taken["parent_id"] == SPAN
        assert sent["parent_id"] == taken["span_id"]
        assert charging["parent_id"] == sent["span_id"]
        assert charged["span_id"] == charging["span_id"]


def test_a_request_that_nobody_traces_is_not_told_of(vhost: VirtualHost, tmp_path: Path) -> None:
    """A line for each job in every log would be too many; the level debug has them."""
    special = {"api": {"LOG_LEVEL": "debug"}}
    with System(vhost, tmp_path, environment=JSON, special=special) as system:
        status, answer = system.post({}, traceparent="nonsense")
        assert status == 202
        system.wait_completed({answer["id"]})
        assert answer["id"] in system.log("api")
        assert answer["id"] not in system.log("dispatcher")
