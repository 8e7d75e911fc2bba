"""The types of problem that the api answers: their codes, which stay, and what to do. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NamedTuple

PATH: Final = "/docs/problems"  # each type has a page below it


class ProblemType(NamedTuple):
    """A type of problem: a code for programs, and the text of its page."""

    code: str
    status: HTTPStatus
    meaning: str
    remedy: str

    @property
    def uri(self) -> str:
        """Return the address of its page, as the ``type`` of problem documents."""
        return f"{PATH}/{self.code}"


MALFORMED_JSON: Final = ProblemType(
    "malformed-json",
    HTTPStatus.BAD_REQUEST,
    "The body is not JSON.",
    "Correct the body: the detail says where reading it failed.",
)
MALFORMED_REQUEST: Final = ProblemType(
    "malformed-request",
    HTTPStatus.BAD_REQUEST,
    "The request is not valid HTTP.",
    "Send it with an HTTP client's library; the detail says what is wrong.",
)
REPEATED_HEADER: Final = ProblemType(
    "repeated-header",
    HTTPStatus.BAD_REQUEST,
    "A header that has one value was sent more than once.",
    "Send the header that the detail names once.",
)
KEY_REQUIRED: Final = ProblemType(
    "key-required",
    HTTPStatus.UNAUTHORIZED,
    "The request needs an API key, and has none.",
    "Send the header Authorization: Bearer <key>. `python -m api.new_key NAME SCOPE` makes a key.",
)
UNKNOWN_KEY: Final = ProblemType(
    "unknown-key",
    HTTPStatus.UNAUTHORIZED,
    "The key is not one that this api knows.",
    "Compare it with what `python -m api.new_key` printed; restart the api after adding a key.",
)
CROSS_ORIGIN: Final = ProblemType(
    "cross-origin",
    HTTPStatus.FORBIDDEN,
    "A browser may be sending the request for a page of another site.",
    "Send it from a program, with a key, or to localhost or an IP address.",
)
SCOPE_REQUIRED: Final = ProblemType(
    "scope-required",
    HTTPStatus.FORBIDDEN,
    "The key does not have the scope that the operation needs.",
    "Use an operator's key. That of `make up` is in .secrets/operator.",
)
UNKNOWN_PATH: Final = ProblemType(
    "unknown-path",
    HTTPStatus.NOT_FOUND,
    "There is nothing at this path.",
    "See /docs for the paths there are.",
)
UNKNOWN_JOB: Final = ProblemType(
    "unknown-job",
    HTTPStatus.NOT_FOUND,
    "There is no job with this id in the event log.",
    "Check the id. Jobs that ended are forgotten after a day, or when MAX_JOBS others came since.",
)
UNKNOWN_SUBSTATION: Final = ProblemType(
    "unknown-substation",
    HTTPStatus.NOT_FOUND,
    "There is no substation with this id.",
    "GET /substations lists those there are.",
)
METHOD_NOT_ALLOWED: Final = ProblemType(
    "method-not-allowed",
    HTTPStatus.METHOD_NOT_ALLOWED,
    "The path does not support the method.",
    "The header Allow lists the methods of the path.",
)
ALREADY_ENDED: Final = ProblemType(
    "already-ended",
    HTTPStatus.CONFLICT,
    "The job cannot be cancelled: it has ended otherwise.",
    "The detail says how it ended; GET /charge/{id} shows when.",
)
BODY_TOO_LARGE: Final = ProblemType(
    "body-too-large",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "The body is larger than the api reads.",
    "Send fewer requests at once: a list has at most 1,000.",
)
NOT_JSON: Final = ProblemType(
    "not-json",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "The body is not declared as JSON.",
    "Send the header Content-Type: application/json.",
)
INVALID_FIELD: Final = ProblemType(
    "invalid-field",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "A field, a parameter or a header is unknown, or its value is not allowed.",
    "Correct what `errors` names.",
)
IMPOSSIBLE_REQUEST: Final = ProblemType(
    "impossible-request",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "No substation can ever take the request.",
    "Ask for less power, or allow other substations: `errors` says which.",
)
KEY_REUSED: Final = ProblemType(
    "idempotency-key-reused",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The Idempotency-Key was used for another request before.",
    "Send a new request with a new key, and the same request with the same key.",
)
RATE_LIMITED: Final = ProblemType(
    "rate-limited",
    HTTPStatus.TOO_MANY_REQUESTS,
    "There were more requests with this key than RATE_LIMIT allows.",
    "Send the request again after as many seconds as Retry-After says, or send lists.",
)
INTERNAL_ERROR: Final = ProblemType(
    "internal-error",
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "The api failed.",
    "Look for the name that the detail gives in the api's log, and report it.",
)
UNAVAILABLE: Final = ProblemType(
    "rabbitmq-unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "RabbitMQ is away, refuses messages, or has not confirmed in time.",
    "Send the request again after Retry-After, with an Idempotency-Key. GET /readyz says more.",
)
NOT_CAUGHT_UP: Final = ProblemType(
    "not-caught-up",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The api has just started, and has not read the event log to its end yet.",
    "Send the request again after Retry-After.",
)
PARTLY_ACCEPTED: Final = ProblemType(
    "partly-accepted",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "RabbitMQ confirmed some requests of a list, and not the others.",
    "Send the same list again with the same Idempotency-Key: `accepted` are the jobs there are.",
)
TOO_MANY_STREAMS: Final = ProblemType(
    "too-many-streams",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "As many clients follow GET /events as one api serves.",
    "Close streams that nobody reads, or connect again later; GET /charge/{id} shows a job.",
)

TYPES: Final = {
    each.code: each
    for each in (
        MALFORMED_JSON,
        MALFORMED_REQUEST,
        REPEATED_HEADER,
        KEY_REQUIRED,
        UNKNOWN_KEY,
        CROSS_ORIGIN,
        SCOPE_REQUIRED,
        UNKNOWN_PATH,
        UNKNOWN_JOB,
        UNKNOWN_SUBSTATION,
        METHOD_NOT_ALLOWED,
        ALREADY_ENDED,
        BODY_TOO_LARGE,
        NOT_JSON,
        INVALID_FIELD,
        IMPOSSIBLE_REQUEST,
        KEY_REUSED,
        RATE_LIMITED,
        INTERNAL_ERROR,
        UNAVAILABLE,
        NOT_CAUGHT_UP,
        PARTLY_ACCEPTED,
        TOO_MANY_STREAMS,
    )
}
