"""What travels through RabbitMQ, as an AsyncAPI document and as a page.

From the structs that read it, the topology, and what each user is permitted to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from deploy.rabbitmq.users import EVERYTHING, permissions
from grid import cancellations, controls, events, messages, topology
from grid.topology import Queue
from grid.version import version
from tests.docs.http import described
from tests.docs.tables import GENERATED, code, table

ANY: Final = "{id}"  # a substation, in names of channels
SAMPLE: Final = "north"
REF: Final = "#/components/schemas/{name}"
NAMES: Final = {"_Checked": "ChargeRequest", "_Message": "Controls", "_Control": "Control"}
MEANINGS: Final[Mapping[str, str]] = {
    topology.REQUESTS: "Accepted requests that have no substation yet.",
    topology.substation_queue(ANY).name: "The jobs of one substation.",
    topology.EVENTS: "What happened to each job, one or more events a message, one a line.",
    topology.CONTROLS: "What operators have set; each message holds all of it.",
    topology.CANCELLATIONS: "The jobs that clients have cancelled.",
    topology.PARKED: "Messages that cannot be processed, unchanged; headers say why.",
    topology.DEAD: "Dead letters of the other queues, by RabbitMQ; the dispatcher parks them.",
}
PAYLOADS: Final[Mapping[str, str]] = {
    topology.EVENTS: "Event",
    topology.CONTROLS: "Controls",
    topology.CANCELLATIONS: "Cancellation",
}
HEAD: Final = """# Messages

What travels through RabbitMQ, as JSON. Every message is published with confirms and `mandatory`,
and is persistent. A reader ignores fields that it does not know. The same as an [AsyncAPI
document](asyncapi.json).

Times are Unix seconds, energy is in kWh, power in kW. A job's messages carry its id as
`message_id`, and `traceparent` and `tracestate` (W3C Trace Context) as headers.

"""


def document() -> dict[str, Any]:
    """Return the AsyncAPI document."""
    queues = [*topology.QUEUES, topology.substation_queue(ANY)]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Smart grid dispatcher",
            "version": version(),
            "description": "The queues, streams and messages of the system.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {queue.name: _channel(queue) for queue in queues},
        "operations": dict(_operations(queues)),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def text() -> str:
    """Return the document as it is committed."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def page() -> str:
    """Return the page."""
    found = document()
    parts = [GENERATED, HEAD, "## Queues and streams\n\n"]
    parts.append(table(["name", "holds", "payload", "published by", "read by"], _rows(found)))
    parts.append("## Arguments of the queues\n\n")
    parts.append(table(["queue", "exchange", "routing key", "arguments"], _arguments(found)))
    parts.append("## Payloads\n\n")
    for name, schema in found["components"]["schemas"].items():
        parts += described(name, schema)
    return "".join(parts)


def _channel(queue: Queue) -> dict[str, Any]:
    payload = PAYLOADS.get(queue.name, "ChargeRequest")
    channel: dict[str, Any] = {
        "address": queue.name,
        "description": MEANINGS[queue.name],
        "messages": {payload: {"$ref": f"#/components/messages/{payload}"}},
        "bindings": {"amqp": {"is": "queue", "queue": {"name": queue.name, "durable": True}}},
        "x-exchange": {"name": queue.exchange, "type": topology.EXCHANGES[queue.exchange]},
        "x-routing-key": "the name of the user" if queue.key == "#" else queue.key,
        "x-arguments": dict(queue.arguments),
    }
    if ANY in queue.name:
        channel["parameters"] = {"id": {"description": "The substation's id"}}
    return channel


def _operations(queues: list[Queue]) -> Iterator[tuple[str, dict[str, Any]]]:
    for user, permission in permissions([SAMPLE]).items():
        if permission == EVERYTHING:
            continue
        name = user.replace(SAMPLE, ANY)
        for queue in queues:
            real = queue.name.replace(ANY, SAMPLE)
            channel = {"$ref": f"#/channels/{queue.name}"}
            if re.search(permission.write, queue.exchange):
                yield f"{name} sends {queue.name}", {"action": "send", "channel": channel}
            if re.search(permission.read, real):
                yield f"{name} receives {queue.name}", {"action": "receive", "channel": channel}


def _messages() -> dict[str, Any]:
    return {
        name: {"name": name, "payload": {"$ref": REF.format(name=name)}}
        for name in ("ChargeRequest", *PAYLOADS.values())
    }


def _schemas() -> dict[str, Any]:
    fields = msgspec.structs.fields(messages._Checked)  # noqa: SLF001
    structs = (
        # they are checked as an array, and travel as an object
        msgspec.defstruct("_Checked", [(each.name, each.type) for each in fields]),
        events.Event,
        cancellations.Cancellation,
        controls._Message,  # noqa: SLF001
    )
    _, found = msgspec.json.schema_components(structs, ref_template=REF)
    plain = json.dumps(found)
    for private, name in NAMES.items():
        plain = plain.replace(f'"{private}"', f'"{name}"').replace(f"/{private}", f"/{name}")
    schemas: dict[str, Any] = _portable(json.loads(plain))
    request = schemas["ChargeRequest"]
    request["description"] = (messages.ChargeRequest.__doc__ or "").partition("The constructor")[0]
    request["properties"] = {"version": {"const": messages.VERSION}, **request["properties"]}
    request["required"] = ["version", "id", "requested_at"]
    request["properties"]["vehicle_id"] = {"type": "string", "pattern": messages.VEHICLE_PATTERN}
    for schema in schemas.values():
        if text := schema.get("description"):
            schema["description"] = " ".join(text.replace("``", "`").split())
    return schemas


def _portable(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return schemas without what only Python's patterns have, and with one kind of number."""
    if isinstance(value, list):
        return [_portable(each) for each in value]
    if not isinstance(value, dict):
        return value
    value = {name: _portable(each) for name, each in value.items()}
    if isinstance(pattern := value.get("pattern"), str):
        value["pattern"] = pattern.replace("\\Z", "$")
    choices = value.get("anyOf")
    if isinstance(choices, list):
        kinds = [each.get("type") for each in choices]
        if {"integer", "number"} <= {*kinds}:
            choices = [each for each in choices if each.get("type") != "integer"]
        if len(choices) == 1:
            return {**choices[0], **{k: v for k, v in value.items() if k != "anyOf"}}
        value["anyOf"] = choices
    return value


def _rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, channel in found["channels"].items():
        users: dict[str, list[str]] = {"send": [], "receive": []}
        for operation, each in found["operations"].items():
            if each["channel"]["$ref"].endswith(f"/{name}"):
                users[each["action"]].append(code(operation.split(" ")[0]))
        payload = next(iter(channel["messages"]))
        yield [
            code(name),
            channel["description"],
            f"[{payload}](#{payload.lower()})",
            ", ".join(users["send"]),
            ", ".join(users["receive"]),
        ]


def _arguments(found: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, channel in found["channels"].items():
        arguments = (f"{key}={value}" for key, value in channel["x-arguments"].items())
        exchange = channel["x-exchange"]
        key = channel["x-routing-key"]
        yield [
            code(name),
            f"{code(exchange['name'])} ({exchange['type']})",
            key if " " in key else code(key),
            ", ".join(map(code, arguments)),
        ]
