"""The OpenAPI document and the api say the same: what may be sent, and what may not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, urlencode

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.core import NotSet
from schemathesis.generation import GenerationMode

from api import auth
from grid import messages
from tests.api import document
from tests.api.harness import JSON, Answer, Bench, problem
from tests.examples import examples
from tests.grid.strategies import json_values

KEY: Final = "the depot's key"
BEARER: Final = ("Authorization", f"Bearer {KEY}")
KEYS: Final = auth.parse_keys(f"depot operator {sha256(KEY.encode()).hexdigest()}")
OPERATIONS: Final = [
    ("POST", "/charge"),
    ("POST", "/charges"),
    ("GET", "/charges"),
    ("GET", "/charge/{id}"),
    ("PUT", "/substations/{id}"),
    ("PATCH", "/substations/{id}"),
]
DOCUMENT: Final = document.committed()
SHAPES: Final = {"components": DOCUMENT["components"]}
LEAP_YEAR: Final = "2996"
EARLIER_LEAP_YEAR: Final = "1996"
NO_BREAK_SPACE: Final = "\u00a0"

Ask = Callable[..., Answer]
GENEROUS: Final = [HealthCheck.too_slow, HealthCheck.filter_too_much]


def thorough(usual: int = 60) -> settings:
    """Return the settings of a property that draws what the document describes."""
    return settings(examples(usual), suppress_health_check=GENEROUS)


@contextmanager
def serving() -> Iterator[Ask]:
    """Serve an api whose answers can be waited for from a plain function."""
    with asyncio.Runner() as runner:
        bench = Bench(keys=KEYS)
        stack = AsyncExitStack()
        runner.run(stack.enter_async_context(bench.serve()))
        try:
            yield lambda *what: runner.run(bench.ask(*what))
        finally:
            runner.run(stack.aclose())


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Serve an api with an operator's key."""
    async with Bench(keys=KEYS).serve() as found:
        yield found


def in_the_future(body: Any) -> Any:  # noqa: ANN401  # JSON
    """Put right what a schema cannot say: a departure is in the future, and after any start."""
    for each in body if isinstance(body, list) else [body]:
        if isinstance(each, dict) and each.get("departure_time") is not None:
            each["departure_time"] = LEAP_YEAR + each["departure_time"][4:]
        if isinstance(each, dict) and isinstance(each.get("earliest_start"), str):
            each["earliest_start"] = EARLIER_LEAP_YEAR + each["earliest_start"][4:]
    return body


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_api_accepts_what_the_document_allows(method: str, path: str) -> None:
    """Whatever is drawn from it: body, headers, query and path; jobs may be unknown, no more."""
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method]
    with serving() as ask:

        @given(operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        @thorough()
        def check(case: Case[Any]) -> None:
            where = path.format(**case.path_parameters)
            query = f"?{urlencode(case.query)}" if case.query else ""
            headers = [
                (name, value)
                for name, value in case.headers.items()
                # a key that came with another request before is refused, as its description says
                if name.lower() not in ("authorization", "idempotency-key")
            ]
            data = None
            if not isinstance(case.body, NotSet):
                data = json.dumps(in_the_future(case.body))
                headers.append(JSON)
            answer = ask(method, where + query, data, [*headers, BEARER])
            unknown = answer.status == 404 and "there is no" in answer.body["detail"]
            assert answer.status in (200, 202) or unknown, (answer.body, data)

        check()


ODD_TEXTS: Final = st.text(st.characters(min_codepoint=0, max_codepoint=0x30FF), max_size=66)
MOMENTS: Final = st.from_regex(
    r"[0-9]{4}-(0[1-9]|1[0-2])-([01][1-8]|29|3[01])[Tt ]?[0-2][0-9]:[0-6][0-9]"
    r"(:[0-6][0-9])?([.,][0-9]{0,12})?([Zz]|[+-][0-2][0-9]:[0-6][0-9])?",
    fullmatch=True,
)
VALUES: Final = (
    json_values
    | ODD_TEXTS
    | MOMENTS
    | st.floats(-1, 10_001)
    | st.integers(-1, 1_000_001)
    | st.lists(ODD_TEXTS, max_size=3)
    | st.lists(st.just("s1"), min_size=98, max_size=102)
)


@pytest.mark.parametrize(
    ("method", "path", "shape"),
    [("POST", "/charge", "ChargeIn"), ("PATCH", "/substations/s1", "ControlChange")],
)
def test_api_accepts_exactly_the_field_values_of_the_document(
    method: str, path: str, shape: str
) -> None:
    """Any other value is rejected with the name of the field."""
    is_allowed = jsonschema_rs.validator_for(
        {"$ref": f"#/components/schemas/{shape}", **SHAPES}, validate_formats=False
    ).is_valid
    fields = sorted(DOCUMENT["components"]["schemas"][shape]["properties"])
    with serving() as ask:

        @given(st.sampled_from([*fields, "colour"]), VALUES)
        @example("vehicle_id", f"bus{NO_BREAK_SPACE}7")
        @example("vehicle_id", "bus\n")
        @example("vehicle_id", "bus 7 🚗")
        @example("departure_time", "2996-12-31T23:59:60Z")
        @example("priority", 9.0)
        @example("limit", 1_000_001)
        @thorough(600)
        def check(field: str, value: object) -> None:
            try:
                text = json.dumps({field: value}, allow_nan=False)
            except ValueError:
                return  # which is no JSON
            body = in_the_future(json.loads(text)) if isinstance(value, str) else json.loads(text)
            answer = ask(method, path, json.dumps(body), [JSON, BEARER])
            if not is_allowed(body):
                found = problem(answer, 422)
                assert all(each["field"].startswith(field) for each in found["errors"])
            elif field not in (
                "departure_time",
                "earliest_start",
            ):  # days and hours are for `format` to say
                assert answer.status in (200, 202), answer.body

        check()


def parameters(method: str, path: str, kind: str) -> dict[str, Callable[[Any], bool]]:
    """Return what the document allows for each parameter of a kind."""
    found = DOCUMENT["paths"][path][method.lower()]["parameters"]
    return {
        each["name"]: jsonschema_rs.validator_for({**each["schema"], **SHAPES}).is_valid
        for each in found
        if each["in"] == kind
    }


def test_api_accepts_exactly_the_query_parameters_of_the_document() -> None:
    """A number in a query consists of digits, and of nothing else that Python reads as a number."""
    allowed = parameters("GET", "/charges", "query")
    texts = ODD_TEXTS | st.from_regex(r"[+ ]?[0-9_]{1,5}(\.0)?", fullmatch=True)
    with serving() as ask:

        @given(st.sampled_from(sorted(allowed)), texts)
        @example("limit", "+5")
        @example("limit", "1_0")
        @example("limit", "5.0")
        @example("limit", "\u0665")
        @example("status", "null")
        @thorough(300)
        def check(name: str, text: str) -> None:
            number = int(text) if re.fullmatch(r"[0-9]+", text) else text
            answer = ask("GET", f"/charges?{name}={quote(text, safe='')}", None, [BEARER])
            if allowed[name](number if name == "limit" else text):
                assert answer.status in (200, 404)
            else:
                assert problem(answer, 422)["errors"][0]["field"] == name

        check()


def test_api_accepts_exactly_the_headers_of_the_document() -> None:
    """Only the Idempotency-Key has to have a certain form."""
    allowed = parameters("POST", "/charge", "header")
    with serving() as ask:

        @given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300))
        @thorough()
        def check(text: str) -> None:
            text = text.strip()  # as any header is
            answer = ask("POST", "/charge", None, [("Idempotency-Key", text), BEARER])
            if allowed["idempotency-key"](text):
                assert answer.status == 202
            else:
                assert problem(answer, 422)["errors"][0]["field"] == "idempotency-key"
            for name in allowed.keys() - {"idempotency-key"}:
                assert allowed[name](text)
                assert ask("POST", "/charge", None, [(name, text), BEARER]).status == 202

        check()


async def test_repeated_query_parameter_is_rejected(bench: Bench) -> None:
    """422 that names it: of two values one would be ignored."""
    for query in ("limit=1&limit=2", "status=queued&limit=1&status=queued"):
        found = problem(await bench.ask("GET", f"/charges?{query}", None, [BEARER]), 422)
        assert "must be given once, got 2" in found["detail"]
        assert found["errors"][0]["field"] == query.partition("=")[0]


def test_no_parameter_of_the_document_is_a_list_or_null() -> None:
    """Headers and queries cannot hold null, and some client generators skip unions."""
    for operations in DOCUMENT["paths"].values():
        for operation in operations.values():
            for each in operation.get("parameters", ()):
                assert "anyOf" not in each["schema"], each["name"]
                assert each["schema"].get("type") != "array", each["name"]


def test_document_of_patch_has_no_defaults() -> None:
    """A client that fills in defaults would make a draining substation available."""
    shape = DOCUMENT["components"]["schemas"]["ControlChange"]
    assert not any("default" in each for each in shape["properties"].values())


def test_vehicle_pattern_allows_every_printable_character() -> None:
    """The pattern of the document rejects no name that was accepted before there was a pattern."""
    printable = [chr(code) for code in range(0x11_0000) if chr(code).isprintable()]
    assert all(re.fullmatch(messages.VEHICLE_PATTERN, each) for each in printable)
    assert not re.search(messages.VEHICLE_PATTERN, NO_BREAK_SPACE)


def test_document_equals_the_committed_copy() -> None:
    """Generated clients keep working; a change on purpose changes this copy as well."""
    before = document.FILE.read_text(encoding="utf-8")
    assert document.text() == before, f"{document.FILE}: renew it with {document.COMMAND}"


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every operation, with its name."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_has_a_chosen_name_and_says_which_key_it_needs() -> None:
    """Names of generated functions are chosen: they stay when a route's function is renamed."""
    names = {name: each["operationId"] for name, each in operations()}
    assert names == {
        "POST /charge": "createCharge",
        "POST /charges": "createCharges",
        "GET /charge/{id}": "getCharge",
        "DELETE /charge/{id}": "cancelCharge",
        "POST /charge/{id}/cancel": "cancelChargeByPost",
        "GET /charges": "listCharges",
        "GET /charges.csv": "exportCharges",
        "GET /events": "streamEvents",
        "GET /stats": "getStats",
        "POST /parked/replay": "replayParked",
        "POST /parked/discard": "discardParked",
        "GET /substations": "listSubstations",
        "GET /substations/{id}": "getSubstation",
        "PUT /substations/{id}": "replaceSubstationControls",
        "PATCH /substations/{id}": "changeSubstationControls",
        "GET /substations/{id}/limits": "getSubstationLimits",
        "PUT /substations/{id}/limits": "replaceSubstationLimits",
        "DELETE /substations/{id}/limits": "removeSubstationLimits",
        "GET /metrics": "getMetrics",
        "GET /healthz": "getLiveness",
        "GET /readyz": "getReadiness",
    }
    assert all("security" in each for _, each in operations())
    assert [each["url"] for each in DOCUMENT["servers"]] == ["/"]


def test_header_parameters_are_plain_strings() -> None:
    """Generators make an argument of each, which takes a text."""
    found = [
        parameter
        for _, each in operations()
        for parameter in each.get("parameters", ())
        if parameter["in"] == "header"
    ]
    assert {each["name"] for each in found} >= {"prefer", "idempotency-key"}
    assert all(each["schema"]["type"] == "string" for each in found)


def test_answers_of_the_document_declare_their_headers() -> None:
    """What a client has to read besides the body: where the job is, when to try again."""
    answers = dict(operations())["POST /charge"]["responses"]
    assert answers["202"]["headers"].keys() == {
        *("Location", "Idempotency-Replayed", "Preference-Applied", "traceresponse")
    }
    for status, header in (
        ("401", "WWW-Authenticate"),
        ("429", "Retry-After"),
        ("503", "Retry-After"),
    ):
        assert header in answers[status]["headers"]


@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
async def test_answers_that_depend_on_accept_vary_by_it(bench: Bench, accept: str) -> None:
    """The document declares it; only the metrics vary as well."""
    varying = {
        name
        for name, each in operations()
        for answer in each["responses"].values()
        if "Vary" in answer.get("headers", ())
    }
    assert varying == {"GET /charges", "GET /metrics"}
    headers = [("Accept", accept), BEARER]
    listed = await bench.ask("GET", "/charges", None, headers)
    assert listed.headers["Content-Type"].startswith(accept)
    assert listed.headers["Vary"] == "Accept"
    assert "Vary" not in (await bench.ask("GET", "/charges.csv", None, headers)).headers


def test_every_answer_of_the_document_says_what_it_means() -> None:
    """FastAPI would describe each as "Successful Response"."""
    for name, each in operations():
        meanings = {status: answer["description"] for status, answer in each["responses"].items()}
        assert "Successful Response" not in meanings.values(), name
        assert len(set(meanings.values())) == len(meanings), (name, meanings)


def test_every_answer_of_the_document_has_one_kind_of_content() -> None:
    """Of two, a generated client has a union of types, whose fields it cannot use."""
    for name, each in operations():
        for status, answer in each["responses"].items():
            assert len(answer.get("content", {})) == 1, (name, status)


# keyed by what the log holds: substations, and states
MAPS: Final = {
    *("Details.loads", "StatsAnswer.jobs", "StreamHistory.loads"),
    *("StreamStatus.counts", "StreamStatus.energy_today_kwh", "StreamStatus.last_minute"),
}


def test_objects_of_the_document_have_a_known_shape() -> None:
    """Only what is keyed by substations or states is a map; everything else names its fields."""
    free = set()
    for name, shape in DOCUMENT["components"]["schemas"].items():
        for field, schema in shape.get("properties", {}).items():
            kinds = [schema, schema.get("items", {}), *schema.get("anyOf", ())]
            if any(each.get("type") == "object" for each in kinds):
                free.add(f"{name}.{field}")
    assert free == MAPS


def test_examples_of_the_document_are_valid() -> None:
    """Each example is what its schema describes."""
    shapes = {
        name: shape["example"]
        for name, shape in DOCUMENT["components"]["schemas"].items()
        if "example" in shape
    }
    assert shapes.keys() >= {"ChargeIn", "Charge", "Problem"}
    for name, found in shapes.items():
        schema = {"$ref": f"#/components/schemas/{name}", **SHAPES}
        jsonschema_rs.validator_for(schema).validate(json.loads(json.dumps(found)))
