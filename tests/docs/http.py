"""The page of the HTTP interface, from its OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.docs.tables import GENERATED, code, table

HEAD: Final = """# HTTP

The interface of the api, as its [OpenAPI document](../openapi.json) describes it; a running api
shows the same at <http://localhost:7000/docs>, to read and to try. Errors are problem documents
(RFC 9457) with a page for each type at <http://localhost:7000/docs/problems>. Keys: [Protect the
api](../how-to/protect-the-api.md).

"""
LIMITS: Final = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "maxItems": "at most, entries:",
    "maxLength": "at most, characters:",
}
Schema = Mapping[str, Any]


def page(document: str) -> str:
    """Return the page of an OpenAPI document."""
    content = json.loads(document)
    parts = [GENERATED, HEAD, f"Version {content['info']['version']}.\n\n"]
    for path, operations in content["paths"].items():
        for method, operation in operations.items():
            parts += _operation(method.upper(), path, operation)
    parts.append("## Schemas\n\n")
    for name, schema in content["components"]["schemas"].items():
        parts += described(name, schema)
    return "".join(parts)


def _operation(method: str, path: str, operation: Schema) -> Iterator[str]:
    yield f"## `{method} {path}`\n\n{operation['summary']}.\n\n"
    if description := operation.get("description"):
        yield f"{description}\n\n"
    if rows := [
        [code(each["name"]), each["in"], _type(each["schema"]), _text(each)]
        for each in operation.get("parameters", ())
    ]:
        yield table(["parameter", "in", "type", "meaning"], rows)
    body = operation.get("requestBody", {}).get("content", {})
    for kind, shape in body.items():
        yield f"Body: `{kind}`, {_type(shape['schema'])}.\n\n"
    yield table(
        ["status", "answer", "meaning"],
        (
            [status, _content(answer), answer.get("description", "")]
            for status, answer in sorted(operation["responses"].items())
        ),
    )


def _content(answer: Schema) -> str:
    kinds = answer.get("content", {})
    return ", ".join(
        f"{_type(shape.get('schema', {}))} ({code(kind)})" for kind, shape in kinds.items()
    )


def described(name: str, schema: Schema) -> Iterator[str]:
    """Yield the heading, text and table of one schema."""
    yield f"### {name}\n\n"
    if text := schema.get("description"):
        yield f"{text}\n\n"
    if "enum" in schema:
        yield f"One of {', '.join(map(code, schema['enum']))}.\n\n"
    needed = schema.get("required", ())
    if rows := [
        [code(field), _type(shape), "yes" if field in needed else "", _text(shape)]
        for field, shape in schema.get("properties", {}).items()
    ]:
        yield table(["field", "type", "always there", "meaning"], rows)


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[word])))
    if "enum" in schema:
        return " or ".join(map(code, schema["enum"]))
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    kind = schema.get("type", "any")
    if kind == "array":
        kind = f"list of {_type(schema.get('items', {}))}"
    elif "format" in schema:
        kind = f"{kind}, {schema['format']}"
    limits = [f"{sign} {schema[name]:.15g}" for name, sign in LIMITS.items() if name in schema]
    return ", ".join([kind, *limits])


def _text(shape: Schema) -> str:
    return str(shape.get("description", ""))
