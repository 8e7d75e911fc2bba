"""W3C Trace Context: what callers send is carried on, and invalid headers do no harm."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from api.settings import ApiSettings
from grid.settings import parse
from grid.trace import MAX_TRACESTATE, SAMPLED, TRACEPARENT, TRACESTATE, Sampler, Trace, carried

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
anything = st.one_of(
    st.none(), st.integers(), st.binary(), st.text(), st.lists(st.text()), st.just(PARENT)
)


def of(parent: object, state: object = None) -> Trace:
    """Return the trace that two headers lead to."""
    headers = {TRACEPARENT: parent, TRACESTATE: state}
    return carried({n: v for n, v in headers.items() if v is not None}, Random(7).getrandbits)  # noqa: S311


def test_trace_is_continued_from_traceparent() -> None:
    """The same trace, flags and state; the caller's span becomes the parent of a new one."""
    one = of(PARENT, "vendor=1,other=2")
    assert (one.trace_id, one.parent, one.flags) == (TRACE, SPAN, SAMPLED)
    assert one.span_id != SPAN
    assert one.headers() == {
        TRACEPARENT: f"00-{TRACE}-{one.span_id}-01",
        TRACESTATE: "vendor=1,other=2",
    }
    following = carried(one.headers(), Random(8).getrandbits)  # noqa: S311
    assert (following.trace_id, following.parent) == (TRACE, one.span_id)


def test_only_a_sampled_trace_is_an_exemplar() -> None:
    """A trace that nobody recorded cannot be looked up."""
    assert of(PARENT).exemplar == {"trace_id": TRACE}
    assert of(PARENT[:-1] + "0").exemplar is None
    assert of(None).exemplar is None


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        f"ff-{TRACE}-{SPAN}-01",  # a version that does not exist
        f"00-{TRACE}-{SPAN}-01-more",  # not in this version
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"{PARENT},{PARENT}",
        f"{PARENT}\n",
        PARENT.encode(),
    ],
)
def test_trace_starts_anew_for_an_invalid_traceparent(parent: object) -> None:
    """The standard requires it; the state, which belongs to no trace then, is dropped."""
    one = of(parent, "vendor=1")
    assert one.trace_id != TRACE
    assert (one.parent, one.flags, one.state) == ("", 0, "")


@pytest.mark.parametrize("more", ["", "-what-comes-then"])
def test_trace_of_a_later_version_is_continued(more: str) -> None:
    """Its trace is carried on, in the version that is spoken here, with the flag that is known."""
    one = of(f"cc-{TRACE}-{SPAN}-ff{more}")
    assert (one.trace_id, one.parent) == (TRACE, SPAN)
    assert one.headers()[TRACEPARENT].endswith("-01")


@pytest.mark.parametrize("state", ["x" * (MAX_TRACESTATE + 1), "a=\n", b"a=1", 7])
def test_trace_drops_an_invalid_tracestate(state: object) -> None:
    """The trace goes on without it."""
    assert (of(PARENT, state).trace_id, of(PARENT, state).state) == (TRACE, "")


@given(anything, anything, st.integers(0))
def test_trace_is_made_from_any_headers(parent: Any, state: Any, seed: int) -> None:  # noqa: ANN401
    """Its headers read back as themselves, and fit in an AMQP frame."""
    headers = {TRACEPARENT: parent, TRACESTATE: state}
    one = carried(headers, Random(seed).getrandbits)  # noqa: S311
    following = carried(one.headers(), Random(seed + 1).getrandbits)  # noqa: S311
    assert (following.trace_id, following.parent) == (one.trace_id, one.span_id)
    assert (following.flags, following.state) == (one.flags, one.state)
    assert sum(map(len, one.headers().values())) < 1000


@pytest.mark.parametrize("bits", [0, 2**200 - 1])
def test_trace_ids_are_never_all_zeros(bits: int) -> None:
    """Whatever the random generator returns, the ids are valid."""
    one = carried({}, lambda size: bits & (2**size - 1))
    assert int(one.trace_id, 16) > 0
    assert int(one.span_id, 16) > 0
    assert (len(one.trace_id), len(one.span_id)) == (32, 16)


@pytest.mark.parametrize("name", ["always_on", "always_off", "traceidratio"])
@pytest.mark.parametrize("prefix", ["", "parentbased_"])
@example(trace=2**64, share=1e-300, parent=None)  # less than one of all ids
@given(
    trace=st.integers(1, 2**128 - 1),
    share=st.floats(0, 1),
    parent=st.sampled_from([None, 0, SAMPLED]),
)
def test_sampler_decides_as_opentelemetrys(
    name: str, prefix: str, trace: int, share: float, parent: int | None
) -> None:
    """So that services that sample by themselves, and the api, record the same traces."""
    settings = parse(
        ApiSettings,
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            "OTEL_TRACES_SAMPLER": prefix + name,
            "OTEL_TRACES_SAMPLER_ARG": str(share),
        },
    )
    assert settings.sampler is not None
    given_trace = Trace(f"{trace:032x}", SPAN, SPAN if parent is not None else "", parent or 0)
    roots = {
        "always_on": sampling.ALWAYS_ON,
        "always_off": sampling.ALWAYS_OFF,
        "traceidratio": sampling.TraceIdRatioBased(share),
    }
    theirs: sampling.Sampler = roots[name]
    if prefix:
        theirs = sampling.ParentBased(theirs)
    context = None
    if parent is not None:
        called = SpanContext(trace, int(SPAN, 16), is_remote=True, trace_flags=TraceFlags(parent))
        context = set_span_in_context(NonRecordingSpan(called))
    expected = theirs.should_sample(context, trace, "POST /charge").decision.is_sampled()  # type: ignore[no-untyped-call]
    decided = settings.sampler.decide(given_trace)
    assert decided.sampled is expected
    assert replace(decided, flags=0) == replace(given_trace, flags=0)


def test_traces_are_sampled_by_their_clients_without_a_collector() -> None:
    assert parse(ApiSettings, {"OTEL_TRACES_SAMPLER": "always_on"}).sampler is None


def test_every_trace_is_sampled_by_default_with_a_collector() -> None:
    """As with any program that uses OpenTelemetry; a client's flag is kept."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert parse(ApiSettings, endpoint).sampler == Sampler(1, keeps_flag=True)
