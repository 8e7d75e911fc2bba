"""``POST /charge`` and ``POST /charges``, the routes of nearly every request.

FastAPI documents them, and answers every request that is not plain: it names all mistakes of a
request at once. A plain request is answered without it: the body is read and checked in one pass,
without dependencies, a second model or a copy of the answer (decision 42).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Final, NamedTuple

from fastapi import Body, Depends, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import FailFast, TypeAdapter, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import answers
from api.answers import AcceptedList, Charge
from api.auth import AuthResult
from api.idempotency import HEADER, KEY_PATTERN, job_id
from api.intake import Intake
from api.jobs.job import Job
from api.middleware import auth_result, note_trace
from api.openapi import Responses, header
from api.schemas import MAX_LIST, ChargeIn
from api.view import View
from grid.trace import TRACEPARENT, TRACESTATE, Chance, Sampler, Trace, carried

Prefer = Annotated[
    str | None,
    Header(description="`respond-async` (RFC 7240): answer without waiting for the decision."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=KEY_PATTERN,
        description="A name for this request, chosen by the client: the same request with the same "
        "key is the same job; another request with that key is rejected.",
    ),
]
TraceParent = Annotated[
    str | None,
    Header(description="W3C Trace Context: the caller's span, which is passed on and logged."),
]
TraceState = Annotated[
    str | None, Header(description="W3C Trace Context: passed on with the traceparent.")
]
ChargeIns = Annotated[
    list[ChargeIn],
    FailFast(),
    Body(title="Charge requests", min_length=1, max_length=MAX_LIST),
]

ACCEPTED: Final = 202
_KEY: Final = re.compile(KEY_PATTERN)
_JSON: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})
_READ: Final = frozenset(
    name.lower().encode() for name in ("Content-Type", "Prefer", HEADER, TRACEPARENT, TRACESTATE)
)
_CHARGE: Final = TypeAdapter(ChargeIn)
_ERROR: Final = "api.error"  # of a shortcut, in the scope of its request
_CHARGES: Final = TypeAdapter(ChargeIns)


class RequestContext(NamedTuple):
    """What is known of a request besides its body: its caller, its headers and its trace."""

    caller: AuthResult
    prefer: str | None
    key: str | None
    trace: Trace


class Answer(NamedTuple):
    """The answer to an accepted request: its JSON and its headers."""

    body: bytes
    headers: Mapping[str, str]


Shortcut = Callable[[Scope, bytes], Awaitable[Answer | None]]


class ShortcutRoute(APIRoute):
    """A route of FastAPI whose plain requests are answered by ``shortcut``, without FastAPI.

    ``shortcut`` gets the scope and the body, and returns None to leave the request to FastAPI.
    ``Shortcuts`` calls it.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        shortcut: Shortcut,
        **documented: Any,  # noqa: ANN401  # as for any route
    ) -> None:
        super().__init__(path, endpoint, methods=["POST"], status_code=ACCEPTED, **documented)
        self.shortcut = shortcut

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is not plain, or raise the error of its shortcut."""
        if (error := scope.pop(_ERROR, None)) is not None:
            raise error
        await super().handle(scope, receive, send)


class Shortcuts:
    """Middleware that answers plain requests of some routes, or leaves them to FastAPI.

    It is the innermost one. All that Starlette and FastAPI do between it and a route takes longer
    than the route; an error is raised there, since they know the answer to it.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[ShortcutRoute]) -> None:
        self._app = app
        self._routes = {each.path: each for each in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        messages: list[Message] = []
        answer = None
        try:
            while not messages or messages[-1].get("more_body"):
                messages.append(await receive())
            if messages[-1]["type"] == "http.request":
                body = b"".join(each.get("body", b"") for each in messages)
                answer = await route.shortcut(scope, body)
        except Exception as error:  # noqa: BLE001  # the route raises it
            scope[_ERROR] = error
        if answer is None:
            await self._app(scope, _replayed(messages, receive), send)
        else:
            scope["route"] = route
            await _send(answer, send)


class ChargeRoutes:
    """The two routes that accept charge requests."""

    def __init__(
        self,
        intake: Intake,
        view: View,
        decision_wait: float,
        chance: Chance,
        sampler: Sampler | None,
    ) -> None:
        self._intake = intake
        self._view = view
        self._decision_wait = decision_wait
        self._chance = chance
        self._sampler = sampler

    def routes(
        self,
        responses: Responses,
        **documented: Any,  # noqa: ANN401  # as for any route
    ) -> list[ShortcutRoute]:
        """Return the routes; ``responses`` and the rest are what FastAPI documents of both."""

        # not a plain function: FastAPI would hand each call of it to a thread
        async def trace_of(traceparent: TraceParent = None, tracestate: TraceState = None) -> Trace:
            """Return a new span for the request, in the caller's trace if it has one."""
            return self._trace({TRACEPARENT: traceparent, TRACESTATE: tracestate})

        of_request = Depends(trace_of)  # an annotation would not see a name of this function

        async def charge(
            request: Request,
            body: Annotated[ChargeIn | None, Body(title="Charge request")] = None,
            *,
            prefer: Prefer = None,
            idempotency_key: IdempotencyKey = None,
            trace: Trace = of_request,
        ) -> Response:
            """Request that a vehicle is charged.

            Answered once RabbitMQ has confirmed the request; by default the answer waits a moment
            for the decision, and names the substation, or the start that is promised.
            """
            context = _context(request.scope, prefer, idempotency_key, trace)
            return _response(await self._charge(body or ChargeIn(), context))

        async def charge_several(
            request: Request,
            body: ChargeIns,
            idempotency_key: IdempotencyKey = None,
            trace: Trace = of_request,
        ) -> Response:
            """Request that several vehicles are charged; answered once RabbitMQ has confirmed all.

            If the list is sent again with the same Idempotency-Key, the requests that were accepted
            before are the same jobs.
            """
            context = _context(request.scope, None, idempotency_key, trace)
            return _response(await self._charge_several(body, context))

        return [
            ShortcutRoute(
                "/charge",
                charge,
                self._plain_charge,
                summary="Request a charge",
                operation_id="createCharge",
                response_description="RabbitMQ has confirmed the request: the job, with its "
                "substation if that is decided.",
                response_model=Charge,
                responses=responses
                | header(
                    "Location",
                    "Idempotency-Replayed",
                    "Preference-Applied",
                    "traceresponse",
                    status=ACCEPTED,
                ),
                **documented,
            ),
            ShortcutRoute(
                "/charges",
                charge_several,
                self._plain_charges,
                summary="Request several charges",
                operation_id="createCharges",
                response_description="RabbitMQ has confirmed all requests: their jobs, in their "
                "order.",
                response_model=AcceptedList,
                responses=responses | header("traceresponse", status=ACCEPTED),
                **documented,
            ),
        ]

    async def _plain_charge(self, scope: Scope, body: bytes) -> Answer | None:
        if (context := self._plain_context(scope, body)) is None:
            return None
        try:
            charge_in = _CHARGE.validate_json(body) if body else ChargeIn()
        except ValidationError:
            return None
        return await self._charge(charge_in, context)

    async def _plain_charges(self, scope: Scope, body: bytes) -> Answer | None:
        if (context := self._plain_context(scope, body)) is None:
            return None
        try:
            charges_in = _CHARGES.validate_json(body)
        except ValidationError:
            return None
        return await self._charge_several(charges_in, context)

    def _plain_context(self, scope: Scope, body: bytes) -> RequestContext | None:
        """Return the context that the headers describe; None to leave the request to FastAPI."""
        given = {name: value for name, value in scope["headers"] if name in _READ}
        if body and given.get(b"content-type") not in _JSON:
            return None
        text = {name.decode(): value.decode("latin-1") for name, value in given.items()}
        key = text.get("idempotency-key")
        if key is not None and _KEY.fullmatch(key) is None:
            return None
        return _context(scope, text.get("prefer"), key, self._trace(text))

    def _trace(self, headers: Mapping[str, str | None]) -> Trace:
        trace = carried(headers, self._chance)
        return trace if self._sampler is None else self._sampler.decide(trace)

    async def _charge(self, charge_in: ChargeIn, context: RequestContext) -> Answer:
        """Return the answer, with the headers that say what it is."""
        caller, trace = context.caller, context.trace
        keyed_id = job_id(caller.key_name, context.key) if context.key else None
        job, is_replay = await self._intake.accept(charge_in, caller, trace, keyed_id)
        is_new = not is_replay
        headers = {"Idempotency-Replayed": "true"} if is_replay else {}
        headers["Location"] = f"/charge/{job.id}"
        if _respond_async(context.prefer):
            headers["Preference-Applied"] = "respond-async"
        else:
            job, is_new = await self._view.log.decided(job, self._decision_wait), False
        shown = self._shown(job, is_new=is_new)
        return Answer(answers.encode(shown), _with_trace(trace, headers))

    async def _charge_several(self, charges_in: list[ChargeIn], context: RequestContext) -> Answer:
        ids = None
        if key := context.key:
            name = context.caller.key_name
            ids = [job_id(name, key, number) for number in range(1, len(charges_in) + 1)]
        accepted = await self._intake.accept_all(charges_in, context.caller, context.trace, ids)
        shown: AcceptedList = {
            "jobs": [self._shown(each.job, is_new=not each.is_replay) for each in accepted]
        }
        return Answer(answers.encode(shown), _with_trace(context.trace, {}))

    def _shown(self, job: Job, *, is_new: bool) -> Charge:
        """Return a job as it is shown; why a new one waits, if it does, nobody knows yet.

        If its vehicle leaves, its client is told at once whether it will be ready.
        """
        if is_new and job.request.get("departure_time") is None:
            return answers.charge(job)
        return answers.charge(job, self._view.wait_of(job))


def _response(answer: Answer) -> Response:
    return Response(answer.body, ACCEPTED, answer.headers, media_type="application/json")


def _context(scope: Scope, prefer: str | None, key: str | None, trace: Trace) -> RequestContext:
    note_trace(scope, trace)
    return RequestContext(auth_result(scope), prefer, key, trace)


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    """Return a ``receive`` that repeats these messages, then continues with the original."""
    left = iter(messages)

    async def receive_again() -> Message:
        return next(left, None) or await receive()

    return receive_again


async def _send(answer: Answer, send: Send) -> None:
    headers = [
        (b"content-length", str(len(answer.body)).encode()),
        (b"content-type", b"application/json"),
        *(
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in answer.headers.items()
        ),
    ]
    await send({"type": "http.response.start", "status": ACCEPTED, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _with_trace(trace: Trace, headers: Mapping[str, str]) -> Mapping[str, str]:
    return {"traceresponse": trace.headers()[TRACEPARENT], **headers}


def _respond_async(prefer: str | None) -> bool:
    """Return whether the ``Prefer`` header (RFC 7240) contains ``respond-async``."""
    if prefer is None:
        return False
    names = (part.split(";")[0].strip().lower() for part in prefer.split(","))
    return "respond-async" in names
