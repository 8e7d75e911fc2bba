from __future__ import annotations

from pathlib import Path

import pytest

from tests.broker import VirtualHost
from tests.collector import Collector, running_collector
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_collector_receives_one_request_from_post_to_end(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Through RabbitMQ; with a parent outside, and of a client that knows nothing of traces."""
    with running_collector() as collector:
        environment = {**QUICK, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        with System(vhost, tmp_path, environment=environment) as system:
            ids = []
            for headers in ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, {}):
                status, answer = system.post({}, **headers)
                assert status == 202
                ids.append(answer["id"])
            jobs = {job["id"]: job for job in system.wait_completed({*ids})}
            system.until(lambda: len(collector.spans) == 6, "all spans have arrived")
            for job, parent in zip(ids, (SPAN, ""), strict=True):
                expect_one_trace(collector, jobs[job]["substation"], job, parent)
            traces = {each.trace_id for each in collector.spans}
            assert len(traces) == 2
            assert TRACE in traces
            parent = f"00-{TRACE}-{SPAN}-00"
            status, answer = system.post({}, traceparent=parent)
            system.wait_completed({answer["id"]})
            for name in system.services:
                assert system.end(name) == 0
            assert len(collector.spans) == 6, "a client's flag is kept"


def expect_one_trace(collector: Collector, substation: str, job: str, parent: str) -> None:
    """Check the spans of one request, each the parent of the next."""
    [charge] = [each for each in collector.named("charge") if each.attributes["job.id"] == job]
    [dispatch] = [each for each in collector.spans if each.span_id == charge.parent]
    [post] = [each for each in collector.spans if each.span_id == dispatch.parent]
    assert post.parent == parent
    assert [post.name, dispatch.name] == ["POST /charge", "dispatch"]
    assert len({post.trace_id, dispatch.trace_id, charge.trace_id}) == 1
    assert [each.service["service.name"] for each in (post, dispatch, charge)] == [
        "api",
        "dispatcher",
        "substation",
    ]
    assert charge.service["service.instance.id"] == substation
    assert dispatch.attributes["substation"] == charge.attributes["substation"] == substation
    assert dispatch.attributes["job.id"] == job
    assert charge.attributes["outcome"] == "charged"
    assert post.attributes["http.response.status_code"] == 202
    assert post.began <= dispatch.began <= dispatch.ended
    assert 0.1 <= charge.ended - charge.began <= 0.3


def test_services_work_and_stop_without_their_collector(vhost: VirtualHost, tmp_path: Path) -> None:
    """Each says once that its spans are lost."""
    with running_collector() as collector:
        url = collector.url
    environment = {
        **QUICK,
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    with System(vhost, tmp_path, environment=environment, substations=1) as system:
        for _ in range(2):
            status, answer = system.post([{}] * 20, path="/charges")
            assert status == 202
            system.wait_completed({each["id"] for each in answer["jobs"]})
            for name in system.services:
                lost = f"spans are lost until the collector at OTEL_EXPORTER_OTLP_ENDPOINT={url}"
                system.until(lambda name=name, lost=lost: lost in system.log(name), "it says so")  # type: ignore[misc]
        for name in system.services:
            assert system.end(name) == 0
            assert system.log(name).count("spans are ") == 1
            assert "opentelemetry" not in system.log(name)
